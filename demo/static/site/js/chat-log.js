// The log of a room. Messages stand in the order of their ids; those that are still on their way stand behind them. A line stands
// before the first message of each day, and a mark wherever there are earlier messages that this page has not loaded.

import { element, enable, find, isEnabled } from "./elements.js";
import { face } from "./faces.js";
import { linked } from "./links.js";
import { config, counted, dayName, hourElement, short, strings } from "./strings.js";
import { setCount } from "./title.js";

const NEAR_END = 80; // pixels; as near counts as being there
const TOGETHER = 5 * 60 * 1000; // within so many milliseconds, what one person says stands together

const frame = find("log");
const list = find("messages");
const nobody = find("nobody-yet");
const newer = find("newer");

// Events: "earlier" (its `detail` is { before, after }) when earlier messages are wanted, "read" (the newest id) when everything has
// been seen.
class Log extends EventTarget {
  constructor() {
    super();
    this.items = new Map(); // by id
    this.pending = new Map(); // by ref
    this.newest = 0;
    this.unseen = 0;
    this.atEnd = true;
    this.marks = new IntersectionObserver((entries) => this.reached(entries), { root: frame, rootMargin: "100px 0px" });
    frame.addEventListener("scroll", () => this.moved());
    newer.addEventListener("click", () => {
      this.toEnd();
      frame.focus({ preventScroll: true }); // the button has gone
    });
    document.addEventListener("visibilitychange", () => this.look());
    // A banner, a notice or a keyboard on the screen make the log lower: whoever was at its end stays there.
    new ResizeObserver(() => this.atEnd && this.toEnd()).observe(frame);
  }

  clear() {
    this.marks.disconnect();
    this.items.clear();
    this.pending.clear();
    list.replaceChildren();
    nobody.hidden = true;
    this.newest = 0;
    this.atEnd = true;
    this.count(0);
    frame.setAttribute("aria-busy", "true");
  }

  // The first messages of a room, or what was missed: below a mark, if there is even more.
  take({ messages, after, earlier }) {
    const isNew = frame.getAttribute("aria-busy") === "true";
    for (const message of messages) this.show(message, { live: !isNew });
    if (earlier) this.mark(messages[0].id, after, earlier);
    nobody.hidden = this.items.size + this.pending.size > 0;
    if (isNew) this.toEnd();
    frame.setAttribute("aria-busy", "false");
    this.look();
  }

  // What was asked for at a mark takes its place. What one reads stays where it is on the screen.
  fill({ before, after, messages, earlier }) {
    const mark = list.querySelector(`[data-before="${before}"]`);
    if (!mark) return;
    const below = frame.scrollHeight - frame.scrollTop;
    const focused = mark.contains(document.activeElement);
    mark.remove();
    for (const message of messages) this.show(message, { live: false });
    if (earlier && messages.length) this.mark(messages[0].id, after, earlier);
    this.arrange(this.items.get(before));
    frame.scrollTop = frame.scrollHeight - below;
    if (focused) frame.focus({ preventScroll: true });
  }

  // Nothing came: the mark may be tried again.
  unfilled() {
    for (const button of list.querySelectorAll(".mark button")) enable(button, true);
  }

  mark(before, after, count) {
    const button = element("button", { type: "button" }, counted(strings.earlier, count));
    const mark = hush(element("li", { class: "mark", "data-before": String(before), "data-after": String(after) }, button));
    button.addEventListener("click", () => this.ask(mark));
    this.lead(this.items.get(before)).before(mark);
    this.arrange(this.items.get(before));
    this.marks.observe(mark);
  }

  reached(entries) {
    for (const { target, isIntersecting } of entries) if (isIntersecting) this.ask(target);
  }

  ask(mark) {
    const button = mark.querySelector("button");
    if (!isEnabled(button) || frame.getAttribute("aria-busy") === "true") return;
    enable(button, false);
    const { before, after } = mark.dataset;
    this.dispatchEvent(new CustomEvent("earlier", { detail: { before: Number(before), after: Number(after) } }));
  }

  show(message, { live = true } = {}) {
    if (this.items.has(message.id)) return;
    nobody.hidden = true;
    if (message.author.id === config.me) this.settle(message.ref);
    const item = messageElement(message);
    if (!live) hush(item);
    const next = this.behind(message.id);
    if (next) this.lead(next).before(item);
    else list.append(item);
    this.items.set(message.id, item);
    this.newest = Math.max(this.newest, message.id);
    this.arrange(item);
    this.arrange(nextMessage(item));
    if (!live) return;
    if (message.author.id !== config.me) this.count(this.unseen + 1);
    if (this.atEnd) this.toEnd();
  }

  // The message before which one with this id stands; nearly always it is the newest, and only pending ones are behind it.
  behind(id) {
    const [firstPending] = this.pending.values();
    if (id > this.newest) return firstPending ?? null;
    const behind = [...this.items.keys()].filter((each) => each > id);
    return this.items.get(Math.min(...behind));
  }

  // On its way: shown at once, and replaced when it comes back with an id.
  pend(ref, words) {
    const message = { ref, text: words, author: { id: config.me, name: "" }, sent_at: new Date().toISOString() };
    const item = messageElement(message);
    hush(item); // it is read out when it comes back
    item.classList.add("pending");
    item.querySelector(".meta").append(" ", element("span", {}, strings.sending));
    nobody.hidden = true;
    this.pending.set(ref, item);
    list.append(item);
    this.arrange(item);
    this.toEnd();
  }

  settle(ref) {
    const item = this.pending.get(ref);
    if (!item) return;
    const next = nextMessage(item);
    this.pending.delete(ref);
    item.day?.remove();
    item.remove();
    this.arrange(next);
  }

  rename(id, name) {
    if (id === config.me) return;
    for (const item of list.querySelectorAll(`[data-author="${id}"]`)) {
      const shown = item.querySelector(".meta b");
      if (shown.textContent === name) continue;
      hush(item);
      shown.textContent = name;
      item.querySelector(".face").replaceWith(face(id, name));
    }
  }

  // What stands in front of a message and belongs to it.
  lead(item) {
    return item.day ?? item;
  }

  // A day begins with a line; what one person says in a few minutes stands together.
  arrange(item) {
    if (!item) return;
    const previous = previousMessage(item);
    const day = item.sent.toDateString();
    const isFirst = previous?.sent.toDateString() !== day;
    if (isFirst) {
      item.day ??= hush(element("li", { class: "day" }, element("span", {}, dayName(item.sent))));
      item.before(item.day);
    } else {
      item.day?.remove();
      item.day = null;
    }
    const isSame = previous === item.previousElementSibling && previous?.dataset.author === item.dataset.author;
    item.classList.toggle("follows", isSame && item.sent - previous.sent < TOGETHER);
  }

  // The end of the log, and what has not been seen there

  moved() {
    this.atEnd = frame.scrollHeight - frame.scrollTop - frame.clientHeight < NEAR_END;
    this.look();
  }

  toEnd() {
    frame.scrollTop = frame.scrollHeight;
    this.atEnd = true;
    this.look();
  }

  look() {
    if (!this.atEnd || document.hidden) return;
    this.count(0);
    if (this.newest) this.dispatchEvent(new CustomEvent("read", { detail: this.newest }));
  }

  count(unseen) {
    this.unseen = unseen;
    newer.hidden = unseen === 0 || this.atEnd;
    if (unseen) newer.textContent = `${counted(strings.newMessages, unseen, short(unseen))} ↓`;
    setCount("chat", unseen);
  }
}

function messageElement({ id, author, text, sent_at }) {
  const mine = author.id === config.me;
  const meta = element("p", { class: "meta" }, element("b", {}, mine ? strings.you : author.name), " ", hourElement(sent_at));
  const bubble = element("p", { class: "bubble" }, ...linked(text));
  const parts = mine ? [meta, bubble] : [face(author.id, author.name), meta, bubble];
  const item = element("li", { class: mine ? "message mine" : "message", "data-author": String(author.id) }, ...parts);
  if (id) item.dataset.id = String(id);
  item.sent = new Date(sent_at);
  return item;
}

// Screen readers read the log out as it grows, but for what is no news.
function hush(item) {
  item.setAttribute("aria-live", "off");
  return item;
}

function previousMessage(item) {
  let each = item.previousElementSibling;
  while (each && !each.matches(".message")) each = each.previousElementSibling;
  return each;
}

function nextMessage(item) {
  let each = item.nextElementSibling;
  while (each && !each.matches(".message")) each = each.nextElementSibling;
  return each;
}

export const log = new Log();
