// Who is in the room, and who is writing. While the connection is lost, this is what was known last, and the page says so.

import { element, find } from "./elements.js";
import { face } from "./faces.js";
import { byName, config, format, strings } from "./strings.js";

const TYPING_FOR = 4000; // milliseconds

const here = find("here");
const list = find("people");
const line = find("typing");
const names = new Map();
const writing = new Map();

function show() {
  // The server tells who is here in no order. It is by name, so that nobody jumps when somebody loads the page again.
  const inOrder = [...names].sort(([id, name], [otherId, other]) => byName(name, other) || id - otherId);
  const items = inOrder.map(([id, name]) => {
    const own = id === config.me ? element("span", { class: "muted" }, strings.markYou) : null;
    return element("li", {}, face(id, name), element("span", {}, name, own));
  });
  list.replaceChildren(...items);
  // On a phone the list is a line; a keyboard can scroll only what it can reach.
  if (list.scrollWidth > list.clientWidth) list.tabIndex = 0;
  else list.removeAttribute("tabindex");
  find("here-count").textContent = names.size || ""; // you are here yourself: 0 means not told yet
}

function showWriting() {
  const who = [...writing.values()].map(({ name }) => name).join(strings.listSeparator);
  const sentence = writing.size ? format(writing.size > 1 ? strings.typingMany : strings.typingOne, { names: who }) : "";
  if (line.textContent !== sentence) line.textContent = sentence;
}

export const people = {
  clear() {
    names.clear();
    for (const id of [...writing.keys()]) this.wrote(id);
    this.lost(false);
    show();
  },
  all(everybody) {
    names.clear();
    for (const { id, name } of everybody) names.set(id, name);
    this.lost(false);
    show();
  },
  joined({ id, name }) {
    names.set(id, name);
    show();
  },
  left({ id }) {
    names.delete(id);
    this.wrote(id);
    show();
  },
  lost(isLost) {
    here.classList.toggle("last-known", isLost);
    find("last-known").hidden = !isLost;
    if (isLost) for (const id of [...writing.keys()]) this.wrote(id);
  },
  writes({ id, name }) {
    if (id === config.me) return;
    clearTimeout(writing.get(id)?.timer);
    writing.set(id, { name, timer: setTimeout(() => this.wrote(id), TYPING_FOR) });
    showWriting();
  },
  wrote(id) {
    clearTimeout(writing.get(id)?.timer);
    if (writing.delete(id)) showWriting();
  },
};
