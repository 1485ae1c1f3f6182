// The game page: keys, pointer and touch go to the server; its states go to the canvas, the scores, and to screen readers.

import { watch } from "./banner.js";
import { element, find } from "./elements.js";
import { LiveSocket } from "./socket.js";
import { format, strings } from "./strings.js";
import { Water } from "./water.js";

const KEYS = {
  ArrowLeft: "left", KeyA: "left",
  ArrowRight: "right", KeyD: "right",
  ArrowUp: "ahead", KeyW: "ahead",
};

const stage = find("stage");
const canvas = find("canvas");
const announcer = find("announce");
const scores = find("scores");
const held = new Set();
let water = null;
let pointer = null;
let sent = "";
let shownScores = "";
let state = { boats: [], buoys: [] };

const socket = watch(new LiveSocket("/ws/game/"));
const own = () => state.boats.find((boat) => boat.id === water?.mine);
const announce = (sentence) => (announcer.textContent = sentence);

// An angle between -π and π.
const turnTo = (angle) => Math.atan2(Math.sin(angle), Math.cos(angle));

// Steering

function wish() {
  const boat = own();
  if (pointer && boat) {
    const distance = Math.hypot(pointer.x - boat.x, pointer.y - boat.y);
    const off = turnTo(Math.atan2(pointer.y - boat.y, pointer.x - boat.x) - boat.heading);
    if (distance < 20) return { turn: 0, throttle: 0 };
    return { turn: Math.round(Math.max(-1, Math.min(1, off * 3)) * 10) / 10, throttle: Math.abs(off) > 1.8 ? 0.4 : 1 };
  }
  const turn = (held.has("right") ? 1 : 0) - (held.has("left") ? 1 : 0);
  return { turn, throttle: held.has("ahead") ? 1 : turn ? 0.4 : 0 };
}

function steer() {
  const content = { type: "steer", ...wish() };
  const text = JSON.stringify(content);
  if (text !== sent && socket.send(content)) sent = text;
}

function release() {
  held.clear();
  pointer = null;
  steer();
}

stage.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.code === "KeyN") tellNearest();
  if (event.code === "ArrowDown") event.preventDefault();
  const direction = KEYS[event.code];
  if (!direction) return;
  event.preventDefault();
  held.add(direction);
  steer();
});
stage.addEventListener("keyup", (event) => {
  held.delete(KEYS[event.code]);
  steer();
});
stage.addEventListener("blur", release);
addEventListener("blur", release);

function follow(event) {
  const box = canvas.getBoundingClientRect();
  pointer = {
    x: ((event.clientX - box.left) / box.width) * water.world.width,
    y: ((event.clientY - box.top) / box.height) * water.world.height,
  };
  steer();
}
canvas.addEventListener("pointerdown", (event) => {
  if (!water) return;
  canvas.setPointerCapture(event.pointerId);
  stage.focus({ preventScroll: true });
  event.preventDefault();
  follow(event);
});
canvas.addEventListener("pointermove", (event) => pointer && follow(event));
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, release);

for (const button of document.querySelectorAll("[data-hold]")) {
  const direction = button.dataset.hold;
  const hold = (event) => {
    event.preventDefault();
    held.add(direction);
    steer();
  };
  const letGo = () => {
    held.delete(direction);
    steer();
  };
  button.addEventListener("pointerdown", hold);
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) button.addEventListener(end, letGo);
  button.addEventListener("keydown", (event) => [" ", "Enter"].includes(event.key) && hold(event));
  button.addEventListener("keyup", letGo);
  button.addEventListener("blur", letGo);
  button.addEventListener("contextmenu", (event) => event.preventDefault());
}

// Scores and words

function tellNearest() {
  const boat = own();
  if (!boat) return;
  const distances = state.buoys.map((buoy) => ({ buoy, distance: Math.hypot(buoy.x - boat.x, buoy.y - boat.y) }));
  const { buoy, distance } = distances.reduce((near, each) => (each.distance < near.distance ? each : near));
  const off = turnTo(Math.atan2(buoy.y - boat.y, buoy.x - boat.x) - boat.heading);
  const sideways = off > 0 ? strings.right : strings.left;
  const direction = Math.abs(off) < 0.35 ? strings.ahead : Math.abs(off) > 2.4 ? strings.behind : sideways;
  const depth = water.isDeep(boat) ? strings.deep : strings.shallow;
  announce(format(strings.nearest, { distance: Math.round(distance), direction, water: depth }));
}
find("where").addEventListener("click", tellNearest);

const leaderOf = ({ boats }) => boats.reduce((lead, boat) => (boat.score > (lead?.score ?? 0) ? boat : lead), null);

function tellChanges(old, next) {
  const mine = next.boats.find((boat) => boat.id === water.mine);
  const before = old.boats.find((boat) => boat.id === water.mine);
  const leader = leaderOf(next);
  const others = next.boats.filter((boat) => boat.id !== water.mine);
  const newcomer = others.find((boat) => !old.boats.some((each) => each.id === boat.id));
  const gone = old.boats.find((boat) => !next.boats.some((each) => each.id === boat.id));
  if (mine && before && mine.score > before.score) announce(format(strings.caught, { score: mine.score }));
  else if (leader && leader.id !== water.mine && leader.id !== leaderOf(old)?.id) announce(format(strings.overtaken, leader));
  else if (before && newcomer) announce(format(strings.entered, newcomer));
  else if (before && gone) announce(format(strings.leftGame, gone));
}

function showScores({ boats }) {
  const ranked = [...boats].sort((one, two) => two.score - one.score || one.id - two.id);
  const key = JSON.stringify(ranked.map(({ id, name, score }) => [id, name, score]));
  if (key === shownScores) return;
  shownScores = key;
  find("boats").textContent = boats.length;
  const items = ranked.map(({ id, name, score }) => {
    const you = id === water.mine ? element("span", { class: "muted" }, strings.markYou) : null;
    return element("li", { class: id === water.mine ? "mine" : "" }, element("span", {}, name, you), element("b", {}, String(score)));
  });
  scores.replaceChildren(...items);
}

const handlers = {
  welcome(world) {
    if (water) water.mine = world.boat;
    else {
      water = new Water(canvas, world);
      requestAnimationFrame(draw);
    }
    water.before = water.after = null;
    state = { boats: [], buoys: [] };
    sent = "";
    if (world.boat === null) announce(strings.full);
  },
  state(next) {
    tellChanges(state, next);
    state = next;
    water.update(next, performance.now());
    showScores(next);
    if (pointer) steer();
  },
};

function draw(now) {
  water.draw(now);
  requestAnimationFrame(draw);
}

socket.addEventListener("message", ({ detail }) => handlers[detail.type]?.(detail));
socket.open();
