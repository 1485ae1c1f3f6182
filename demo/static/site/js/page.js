// On every page: the notifications socket, toasts, the count of what is unread, and one's own name at the top.

import { element, find } from "./elements.js";
import { body, isOwn, socket } from "./notifications.js";
import { format, short, strings } from "./strings.js";
import { setCount } from "./title.js";

const TOAST_FOR = 8000; // milliseconds
const TOASTS = 4;

const badge = find("unread");
const toasts = find("toasts");
let unread = 0;

function setUnread(count) {
  unread = count;
  badge.hidden = count === 0;
  badge.replaceChildren(
    element("span", { "aria-hidden": "true" }, short(count)),
    element("span", { class: "hide-visually" }, format(strings.unread, { count })),
  );
  setCount("notifications", count);
}

function toast(notification) {
  const close = element("button", { type: "button", class: "icon-button", "aria-label": strings.dismiss }, "×");
  const item = element("div", { class: "toast" }, element("div", {}, ...body(notification)), close);
  // Not from under a pointer, and not with the focus.
  const wait = () => setTimeout(() => (item.matches(":hover, :focus-within") ? wait() : item.remove()), TOAST_FOR);
  close.addEventListener("click", () => {
    const next = item.nextElementSibling ?? item.previousElementSibling;
    const hadFocus = item.contains(document.activeElement);
    item.remove();
    if (hadFocus) (next?.querySelector("button") ?? origin()).focus({ preventScroll: true });
  });
  toasts.append(item);
  while (toasts.children.length > TOASTS) toasts.querySelector(".toast:not(:focus-within)").remove();
  wait();
}

// Where the focus was before it came to the toasts, if that is still there.
let cameFrom = null;
toasts.addEventListener("focusin", ({ relatedTarget }) => {
  if (!toasts.contains(relatedTarget)) cameFrom = relatedTarget;
});
const origin = () => (cameFrom?.isConnected ? cameFrom : document.querySelector("main"));

function setName(name) {
  const shown = find("my-name");
  if (shown.textContent !== name) shown.textContent = name;
}

socket.addEventListener("message", ({ detail }) => {
  if (detail.type === "state") setName(detail.name);
  if (detail.type === "renamed") setName(detail.name);
  if (detail.type === "state") setUnread(detail.unread);
  if (detail.type === "read") setUnread(detail.unread);
  // What one has sent to everyone oneself is no surprise.
  if (detail.type === "notification" && !isOwn(detail.notification)) {
    setUnread(unread + 1);
    toast(detail.notification);
  }
});
// Every module of the page has run by then, so none misses the first message.
addEventListener("DOMContentLoaded", () => socket.open());
// A form that was refused: the first field to correct is where one goes on.
document.querySelector("main [aria-invalid='true']")?.focus();
