// The chat page: the room, its log, the people, and the box one writes in.
//
// A message is on its way from the moment it is sent until it comes back under its own ref. If the connection is lost in between, the history
// on reconnecting tells whether it arrived; if not, its text goes back into the box. It is never sent again by itself.

import { forget, watch } from "./banner.js";
import { element, find, say } from "./elements.js";
import { LiveSocket } from "./socket.js";
import { byName, config, format, strings, timeElement } from "./strings.js";

const TYPING_EVERY = 2000; // how often typing is told, and
const TYPING_FOR = 4000; // how long it is shown, in milliseconds
const ANSWER_WITHIN = 8000; // a message not back by then means a dead connection
const LEFT_FROM = 200; // characters left from which they are counted

const rooms = find("rooms");
const log = find("log");
const text = find("text");
const notice = find("notice");
const peopleList = find("people");
const people = new Map();
const typing = new Map();
const seen = new Set();
const pending = new Map();
let socket = null;
let shownPath = location.pathname;
let toldTyping = -Infinity;

// The log

function messageElement({ author, text: words, sent_at }) {
  const mine = author.id === config.me;
  const last = log.querySelector("li.message:last-child");
  const follows = last?.dataset.author === String(author.id);
  const kind = ["message", mine && "mine", follows && "follows"].filter(Boolean).join(" ");
  return element(
    "li",
    { class: kind, "data-author": String(author.id) },
    element("p", { class: "meta" }, element("b", {}, mine ? strings.you : author.name), " ", timeElement(sent_at)),
    element("p", { class: "bubble" }, words),
  );
}

function append(item) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  log.querySelector(".empty")?.remove();
  log.append(item);
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function show(message) {
  if (seen.has(message.id)) return;
  seen.add(message.id);
  typing.delete(message.author.id);
  showTyping();
  const waiting = message.author.id === config.me && pending.get(message.ref);
  if (waiting) settle(message.ref);
  append(messageElement(message));
}

function settle(ref) {
  const { item, timer } = pending.get(ref);
  clearTimeout(timer);
  item.remove();
  pending.delete(ref);
}

function takeBack(ref, reason) {
  const { words } = pending.get(ref);
  settle(ref);
  text.value = text.value ? `${words}\n${text.value}` : words;
  fit();
  say(notice, reason);
}

// People

function showPeople() {
  // The server tells who is here in no order. It is by name, so that nobody jumps when somebody loads the page again.
  const inOrder = [...people].sort(([id, name], [otherId, other]) => byName(name, other) || id - otherId);
  const items = inOrder.map(([id, name]) => {
    const own = id === config.me ? element("span", { class: "muted" }, strings.markYou) : null;
    return element("li", {}, element("span", { class: "dot", "aria-hidden": "true" }), element("span", {}, name, own));
  });
  peopleList.replaceChildren(...items);
  find("here-count").textContent = people.size || ""; // you are here yourself: 0 means not told yet
}

function showTyping() {
  const names = [...typing.values()].map((each) => each.name).join(strings.listSeparator);
  const sentence = typing.size > 1 ? strings.typingMany : strings.typingOne;
  const line = typing.size ? format(sentence, { names }) : "";
  if (find("typing").textContent !== line) find("typing").textContent = line;
}

// What the server says

const handlers = {
  welcome({ messages }) {
    messages.forEach(show);
    for (const ref of [...pending.keys()]) takeBack(ref, strings.unsent);
    if (!log.children.length) log.append(element("li", { class: "empty" }, strings.emptyRoom));
    if (log.getAttribute("aria-busy") === "true") log.scrollTop = log.scrollHeight;
    log.setAttribute("aria-busy", "false");
  },
  message: show,
  people({ people: everybody }) {
    people.clear();
    for (const { id, name } of everybody) people.set(id, name);
    showPeople();
  },
  joined({ id, name }) {
    people.set(id, name);
    showPeople();
  },
  left({ id }) {
    people.delete(id);
    typing.delete(id);
    showPeople();
    showTyping();
  },
  typing({ id, name }) {
    if (id === config.me) return;
    clearTimeout(typing.get(id)?.timer);
    const timer = setTimeout(() => typing.delete(id) && showTyping(), TYPING_FOR);
    typing.set(id, { name, timer });
    showTyping();
  },
  notice({ code, ref }) {
    const reason = strings[code] ?? strings.unknown;
    if (pending.has(ref)) takeBack(ref, reason);
    else say(notice, reason);
  },
};

function enter(roomId) {
  if (socket) {
    forget(socket);
    socket.close();
  }
  for (const collection of [people, typing, seen]) collection.clear();
  for (const ref of [...pending.keys()]) settle(ref);
  log.replaceChildren();
  log.setAttribute("aria-busy", "true");
  showPeople();
  showTyping();
  socket = watch(new LiveSocket(`/ws/chat/${roomId}/`));
  socket.addEventListener("message", ({ detail }) => handlers[detail.type]?.(detail));
  socket.open();
}

// What the person does

function fit() {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight + 2}px`;
  const left = config.maxLength - text.value.length;
  say(find("left"), left < LEFT_FROM ? format(strings.left, { count: left }) : "");
}

function send() {
  const words = text.value.trim();
  if (!words) return say(notice, strings.empty);
  const ref = newRef();
  if (!socket.send({ type: "message", text: words, ref })) return say(notice, strings.notSent);
  const bubble = element("p", { class: "bubble" }, words);
  const item = element("li", { class: "message mine pending" }, element("p", { class: "meta" }, strings.sending), bubble);
  pending.set(ref, { words, item, timer: setTimeout(() => socket.renew(), ANSWER_WITHIN) });
  append(item);
  log.scrollTop = log.scrollHeight;
  text.value = "";
  say(notice, "");
  fit();
}

// crypto.randomUUID exists on secure origins only, and a demo is also opened from a phone over plain HTTP.
function newRef() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

text.addEventListener("input", () => {
  fit();
  const now = performance.now();
  if (!text.value || now - toldTyping < TYPING_EVERY) return;
  toldTyping = now;
  socket.send({ type: "typing" });
});

text.addEventListener("keydown", (event) => {
  // While an input method is composing, Enter belongs to it.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});

find("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
  text.focus();
});

rooms.addEventListener("change", () => {
  const option = rooms.selectedOptions[0];
  history.pushState({}, "", option.dataset.url);
  shownPath = location.pathname;
  document.title = format(strings.titleOf, { room: option.textContent });
  enter(Number(rooms.value));
});

// The browser's back and forward buttons; a jump within the page changes no path.
addEventListener("popstate", () => location.pathname !== shownPath && location.reload());

if (config.room !== null) enter(config.room);
fit();
