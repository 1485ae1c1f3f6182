// The list of rooms: which one is open, where something was said that one has not read, and rooms that others create meanwhile.

import { element, find } from "./elements.js";
import { format, short, strings } from "./strings.js";

const list = find("rooms");
const linkOf = (id) => list.querySelector(`a[data-room="${id}"]`);

// Events: "enter" (its `detail` is { id, name }).
class Rooms extends EventTarget {
  constructor() {
    super();
    list.addEventListener("click", (event) => {
      const link = event.target.closest("a");
      // With a key held down the browser opens another tab, as for every link.
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      if (link.getAttribute("aria-current")) return;
      history.pushState({}, "", link.href);
      this.open(link);
    });
    // The browser's back and forward buttons; a jump within the page changes no path.
    addEventListener("popstate", () => {
      const link = [...list.querySelectorAll("a")].find((each) => each.pathname === location.pathname);
      if (!link) location.reload();
      else if (!link.getAttribute("aria-current")) this.open(link);
    });
    this.reveal();
  }

  open(link) {
    list.querySelector("[aria-current]")?.removeAttribute("aria-current");
    link.setAttribute("aria-current", "page");
    this.reveal();
    this.dispatchEvent(new CustomEvent("enter", { detail: { id: Number(link.dataset.room), name: nameOf(link) } }));
  }

  // On a phone the list is a line that scrolls.
  reveal() {
    const current = list.querySelector("[aria-current]");
    if (current) list.scrollLeft = current.offsetLeft - (list.clientWidth - current.offsetWidth) / 2;
  }

  // All of them, as the server knows them. One that the page has already keeps its name, which is in the visitor's language.
  update(rooms) {
    for (const room of rooms) {
      this.add(room);
      this.setUnread(room.id, room.unread);
    }
  }

  add({ id, name, url }) {
    if (linkOf(id)) return;
    const badge = element("span", { class: "badge", hidden: true });
    list.append(element("li", {}, element("a", { href: url, "data-room": String(id) }, element("span", {}, name), badge)));
  }

  said(id) {
    const link = linkOf(id);
    if (link && !link.getAttribute("aria-current")) this.setUnread(id, Number(link.dataset.count ?? 0) + 1);
  }

  setUnread(id, count) {
    const link = linkOf(id);
    if (!link) return;
    const badge = link.querySelector(".badge");
    const isOpen = Boolean(link.getAttribute("aria-current"));
    link.dataset.count = String(isOpen ? 0 : count);
    badge.hidden = isOpen || count === 0;
    badge.replaceChildren(
      element("span", { "aria-hidden": "true" }, short(count)),
      element("span", { class: "hide-visually" }, format(strings.unread, { count })),
    );
  }
}

const nameOf = (link) => link.firstElementChild.textContent;

export const rooms = new Rooms();
