// The chat page: it connects the log, the box, the people and the list of rooms with the server.
//
// A message is on its way from the moment it is sent until it comes back under its own ref. If the connection is lost in between, what
// follows on reconnecting tells whether it arrived; if not, its text goes back into the box. It is never sent again by itself.
//
// The page remembers the position of the last message in the history of the room. When it comes back in time, exactly what it has missed
// follows; otherwise the newest messages come from the database, and a mark says how many are missing before them.

import { forget, watch } from "./banner.js";
import { box } from "./chat-box.js";
import { log } from "./chat-log.js";
import { people } from "./chat-people.js";
import { rooms } from "./chat-rooms.js";
import { LiveSocket } from "./socket.js";
import { config, format, strings } from "./strings.js";
import { setTitle } from "./title.js";

const TYPING_EVERY = 2000; // how often typing is told, in milliseconds
const READ_EVERY = 1500; // how often the server is told what was read
const ANSWER_WITHIN = 8000; // a message not back by then means a dead connection

const pending = new Map(); // words and timer, by ref
let socket = null;
let position = null;
let following = 0; // so many missed messages are still to come
let toldTyping = -Infinity;
let seen = 0; // the newest message that was seen, and
let read = 0; // the newest of which the server was told so
let telling = null;

// What the server says

const handlers = {
  welcome(welcome) {
    position = welcome.position || position;
    following = welcome.follow;
    take(welcome);
    log.unfilled();
    rooms.update(welcome.rooms);
    box.connected();
    caughtUp();
  },
  missed: take,
  earlier: (earlier) => log.fill(earlier),
  message(message) {
    position = message.position || position;
    people.wrote(message.author.id);
    forgetPending(message.ref);
    log.show(message);
    if (following) {
      following -= 1;
      caughtUp();
    }
  },
  people: ({ people: everybody }) => people.all(everybody),
  joined(person) {
    people.joined(person);
    log.rename(person.id, person.name);
  },
  left: (person) => people.left(person),
  typing: (person) => people.writes(person),
  room: ({ room }) => rooms.add(room),
  said: ({ room, author }) => author !== config.me && rooms.said(room),
  read: ({ room }) => rooms.setUnread(room, 0),
  notice({ code, ref }) {
    const reason = strings[code] ?? strings.unknown;
    if (pending.has(ref)) takeBack([ref], reason);
    else log.unfilled();
  },
};

// Messages from the database.
function take(batch) {
  for (const { ref } of batch.messages) forgetPending(ref);
  log.take(batch);
}

function enter(roomId) {
  if (socket) {
    tellRead();
    forget(socket);
    socket.close();
  }
  for (const ref of [...pending.keys()]) forgetPending(ref);
  position = null;
  following = 0;
  read = seen = 0;
  log.clear();
  people.clear();
  box.open(roomId);
  const live = new LiveSocket(`/ws/chat/${roomId}/`, { query: () => known() });
  socket = watch(live);
  live.addEventListener("message", ({ detail }) => live === socket && handlers[detail.type]?.(detail));
  live.addEventListener("lost", () => people.lost(true));
  live.open();
}

// How far the page is, for the server that it comes back to.
function known() {
  return { ...(position && { since: position }), ...(log.newest && { after: log.newest }) };
}

// What the person does

box.addEventListener("send", ({ detail: words }) => {
  const ref = newRef();
  if (!socket?.send({ type: "message", text: words, ref })) return box.unsent();
  pending.set(ref, { words, timer: setTimeout(() => socket.renew(), ANSWER_WITHIN) });
  log.pend(ref, words);
  box.sent();
});

function forgetPending(ref) {
  clearTimeout(pending.get(ref)?.timer);
  pending.delete(ref);
}

// All that was missed is here. What was on its way and is not among it has not arrived.
function caughtUp() {
  if (following === 0) takeBack([...pending.keys()], strings.unsent);
}

function takeBack(refs, reason) {
  for (const ref of refs) {
    const { words } = pending.get(ref);
    forgetPending(ref);
    log.settle(ref);
    box.takeBack(words, reason);
  }
  if (refs.length) box.offer(reason);
}

box.addEventListener("typing", () => {
  const now = performance.now();
  if (now - toldTyping < TYPING_EVERY) return;
  toldTyping = now;
  socket?.send({ type: "typing" });
});

log.addEventListener("earlier", ({ detail }) => {
  if (!socket.send({ type: "earlier", ...detail })) log.unfilled();
});

// Not for each message: a busy room would write to the database for everybody who reads along.
log.addEventListener("read", ({ detail: id }) => {
  seen = id;
  telling ??= setTimeout(tellRead, READ_EVERY);
});

function tellRead() {
  clearTimeout(telling);
  telling = null;
  if (seen > read && socket.send({ type: "read", id: seen })) read = seen;
}

document.addEventListener("visibilitychange", () => document.hidden && socket && tellRead());

rooms.addEventListener("enter", ({ detail: { id, name } }) => {
  setTitle(format(strings.titleOf, { room: name }));
  enter(id);
});

// crypto.randomUUID exists on secure origins only, and a demo is also opened from a phone over plain HTTP.
function newRef() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

if (config.room !== null) enter(config.room);
