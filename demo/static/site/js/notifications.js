// The one notifications socket of a page, and how a notification reads. Shared by page.js and inbox.js.

import { watch } from "./banner.js";
import { element } from "./elements.js";
import { LiveSocket } from "./socket.js";
import { format, strings } from "./strings.js";

export const socket = watch(new LiveSocket("/ws/notifications/"));

export function headline({ kind, sender }) {
  const name = sender ?? strings.someone;
  if (kind === "room") return format(strings.roomOpened, { name });
  if (kind === "bell") return strings.bell;
  return format(strings.noteFrom, { name });
}

// The inside of a notification, alike in a toast and in the list.
export function body(notification) {
  const { text, url } = notification;
  const parts = [element("p", { class: "note-head" }, headline(notification))];
  if (text) parts.push(element("p", { class: "note-text" }, text));
  if (url) {
    const link = element("a", { href: url, class: "note-link" }, strings.goThere);
    link.addEventListener("click", () => socket.send({ type: "read", id: notification.id }));
    parts.push(link);
  }
  return parts;
}
