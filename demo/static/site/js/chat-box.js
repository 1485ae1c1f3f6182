// The box one writes in. A draft belongs to its room: it waits there while one looks into another room, loads the page again, or
// changes the language. What could not be sent comes back into the box, in the order in which it was written.

import { find, say } from "./elements.js";
import { config, format, strings } from "./strings.js";

const LEFT_FROM = 200; // characters left from which they are counted

const text = find("text");
const notice = find("notice");
const again = find("again");

// Events: "send" (its `detail` is the text) and "typing".
class Box extends EventTarget {
  constructor() {
    super();
    this.key = null;
    this.returned = 0; // so many characters at the beginning of the text have come back
    this.waits = false; // for a connection

    text.addEventListener("input", () => {
      this.returned = 0;
      this.keep();
      if (text.value) this.dispatchEvent(new Event("typing"));
    });
    text.addEventListener("keydown", (event) => {
      // While an input method is composing, Enter belongs to it.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.send();
    });
    find("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
      text.focus();
    });
    again.addEventListener("click", () => {
      this.send();
      text.focus();
    });
  }

  open(room) {
    this.key = `draft ${config.me} ${room}`;
    this.fill(recall(this.key));
    this.tell("");
  }

  send() {
    const words = text.value.trim();
    if (!words) return this.tell(strings.empty);
    this.dispatchEvent(new CustomEvent("send", { detail: words }));
  }

  sent() {
    this.fill("");
    this.tell("");
  }

  // There is no connection: the text stays in the box until there is one.
  unsent() {
    this.tell(strings.notSent);
    this.waits = true;
  }

  connected() {
    if (this.waits && text.value.trim()) {
      this.offer(strings.connectedAgain);
      notice.classList.add("plain"); // good news
    } else if (this.waits) this.tell("");
  }

  takeBack(words, reason) {
    const before = text.value.slice(0, this.returned);
    const behind = text.value.slice(this.returned).replace(/^\n/, "");
    const back = before ? `${before}\n${words}` : words;
    this.fill(behind ? `${back}\n${behind}` : back);
    this.returned = back.length;
    this.tell(reason);
  }

  // Nothing is sent again by itself, but one tap is enough.
  offer(reason) {
    this.tell(reason);
    again.hidden = false;
  }

  tell(reason) {
    say(notice, reason);
    notice.classList.remove("plain");
    again.hidden = true;
    this.waits = false;
  }

  fill(value) {
    text.value = value;
    this.returned = 0;
    this.keep();
  }

  keep() {
    remember(this.key, text.value);
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight + 2}px`;
    const left = config.maxLength - text.value.length;
    say(find("left"), left < LEFT_FROM ? format(strings.left, { count: left }) : "");
  }
}

// For this tab. Browsers may refuse to keep anything; then a draft lives as long as the page.
const kept = new Map();

function recall(key) {
  try {
    return sessionStorage.getItem(key) ?? "";
  } catch {
    return kept.get(key) ?? "";
  }
}

function remember(key, value) {
  try {
    if (value) sessionStorage.setItem(key, value);
    else sessionStorage.removeItem(key);
  } catch {
    kept.set(key, value);
  }
}

export const box = new Box();
