// The one notifications connection of a page, by the way that the visitor has chosen, and how a notification reads. Shared by page.js
// and inbox.js.

import { forget, watch } from "./banner.js";
import { element } from "./elements.js";
import { LivePoll } from "./poll.js";
import { LiveSocket } from "./socket.js";
import { LiveStream } from "./stream.js";
import { format, strings } from "./strings.js";

const CHOICE = "notifications-way";
const ACTIONS = "/notifications/act/";
// Each way is told how far the page is, so that changing it, or coming back, misses nothing.
const WAYS = {
  websocket: (page) => new LiveSocket("/ws/notifications/", { query: () => page.known }),
  sse: (page) => new LiveStream("/notifications/events/", ACTIONS, { seen: page.newest }),
  poll: (page) => new LivePoll("/notifications/poll/", ACTIONS, { known: page.known }),
};

// Reads as one connection while the ways change below it. Events: "message", and "way" when its way or its state is another.
class Notifications extends EventTarget {
  constructor() {
    super();
    this.way = chosen();
    this.live = null;
    this.newest = null;
    this.me = null;
  }

  get known() {
    return this.newest === null ? {} : { after: this.newest };
  }

  get isOpen() {
    return Boolean(this.live?.isOpen);
  }

  open() {
    const live = watch(WAYS[this.way](this));
    this.live = live;
    live.addEventListener("message", ({ detail }) => this.took(detail));
    for (const change of ["open", "lost"]) live.addEventListener(change, () => this.dispatchEvent(new Event("way")));
    live.open();
    this.dispatchEvent(new Event("way"));
  }

  took(content) {
    if (content.type === "state") [this.newest, this.me] = [content.newest, content.me];
    if (content.type === "notification") this.newest = Math.max(this.newest, content.notification.id);
    this.dispatchEvent(new CustomEvent("message", { detail: content }));
  }

  change(way) {
    forget(this.live);
    this.live.close();
    this.way = way;
    remember(way);
    this.open();
  }

  send(content) {
    return this.isOpen && this.live.send(content);
  }
}

// Browsers may refuse to keep anything; then every page begins with the first way.
function chosen() {
  try {
    const way = localStorage.getItem(CHOICE);
    return way in WAYS ? way : "websocket";
  } catch {
    return "websocket";
  }
}

function remember(way) {
  try {
    localStorage.setItem(CHOICE, way);
  } catch {
    // It counts for this page.
  }
}

export const socket = new Notifications();

// Sent to everyone by the visitor of this page.
export const isOwn = ({ everyone, sender_id }) => everyone && sender_id !== null && sender_id === socket.me;

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
