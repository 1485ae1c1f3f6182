// The notifications page: the list, marking as read, and the form that sends one.

import { element, enable, find, isEnabled, say } from "./elements.js";
import { body, isOwn, socket } from "./notifications.js";
import { config, format, short, strings, timeElement } from "./strings.js";

const SHOWN = 30;

const list = find("list");
const empty = find("empty");
const readAll = find("read-all");
const unreadText = find("unread-text");
const to = find("to");
const note = find("note");
const notice = find("notice");
const ways = find("ways");
const wayText = find("way-text");
const people = new Map();
let unread = 0; // of all, as the server counts them; the list shows only the last ones

// The list

function item(notification) {
  const { id, everyone, created_at } = notification;
  const read = notification.read || isOwn(notification);
  const button = element("button", { type: "button", class: "button quiet small" }, strings.markRead);
  button.addEventListener("click", () => socket.send({ type: "read", id }));
  const about = element("p", { class: "note-about" }, timeElement(created_at), ` · ${everyone ? strings.everyone : strings.toYou}`);
  const made = element("li", { class: read ? "note" : "note unread", "data-id": String(id) }, element("div", {}, ...body(notification), about));
  if (!read) made.append(button);
  return made;
}

function setUnread(count) {
  unread = count;
  empty.hidden = list.children.length > 0;
  enable(readAll, unread > 0);
  say(unreadText, unread ? format(strings.unread, { count: short(unread) }) : "");
}

// Only what differs is touched, so that a button keeps the focus: with long-polling everything comes again and again.
function showAll(notifications) {
  const shown = new Set(notifications.map(({ id }) => String(id)));
  for (const old of [...list.children]) if (!shown.has(old.dataset.id)) old.remove();
  let place = list.firstElementChild;
  for (const notification of notifications) {
    if (place?.dataset.id === String(notification.id)) place = place.nextElementSibling;
    else list.insertBefore(item(notification), place);
  }
  showRead(notifications.filter(({ read }) => read).map(({ id }) => id));
}

function add(notification) {
  list.prepend(item(notification));
  while (list.children.length > SHOWN) list.lastElementChild.remove();
}

function showRead(ids) {
  for (const id of ids) {
    const read = list.querySelector(`[data-id="${id}"]`);
    const button = read?.querySelector("button");
    if (!button) continue;
    const hadFocus = document.activeElement === button;
    read.classList.remove("unread");
    button.remove();
    if (hadFocus) (list.querySelector(".unread button") ?? find("note")).focus();
  }
}

readAll.addEventListener("click", () => isEnabled(readAll) && socket.send({ type: "read_all" }));

// The form

function showPeople() {
  const chosen = to.value;
  const label = ({ id, name, online }) =>
    id === config.me ? format(strings.you, { name }) : online ? name : format(strings.away, { name });
  const options = [...people.values()].map((person) => element("option", { value: String(person.id) }, label(person)));
  to.replaceChildren(to.options[0], ...options);
  to.value = chosen;
  if (to.value !== chosen) to.value = "";
}

function setOnline({ id, name, online, account }) {
  if (online || account) people.set(id, { id, name, online });
  else people.delete(id);
  showPeople();
}

find("send").addEventListener("submit", (event) => {
  event.preventDefault();
  const content = { type: "send", to: to.value ? Number(to.value) : null, text: note.value };
  if (!socket.send(content)) say(notice, strings.notSent);
});

// The way they arrive

function showWay() {
  if (socket.isOpen && notice.textContent === strings.notSent) say(notice, ""); // one is online again
  ways.dataset.state = socket.isOpen ? "open" : "waiting";
  for (const radio of ways.querySelectorAll("input")) radio.checked = radio.value === socket.way;
  wayText.replaceChildren(element("b", {}, socket.isOpen ? strings.connected : strings.connecting), config.ways[socket.way]);
}

ways.addEventListener("change", ({ target }) => socket.change(target.value));
socket.addEventListener("way", showWay);
ways.hidden = false;
showWay();

const handlers = {
  state({ notifications, people: everybody, unread: count }) {
    showAll(notifications);
    setUnread(count);
    people.clear();
    for (const person of everybody) people.set(person.id, person);
    showPeople();
  },
  notification({ notification }) {
    add(notification);
    setUnread(isOwn(notification) ? unread : unread + 1);
  },
  read({ ids, unread: count }) {
    showRead(ids);
    setUnread(count);
  },
  everybody({ people: online }) {
    const here = new Set(online.map(({ id }) => id));
    for (const person of people.values()) person.online = here.has(person.id);
    for (const { id, name } of online) people.set(id, { id, name, online: true });
    showPeople();
  },
  online: setOnline,
  sent() {
    note.value = "";
    say(notice, strings.sent);
  },
  notice({ code }) {
    say(notice, strings[code] ?? strings.unknown);
  },
};

socket.addEventListener("message", ({ detail }) => handlers[detail.type]?.(detail));
