// The game page: keys, pointer and touch go to the helm; what the server says goes to the canvas, to the lists, and to screen
// readers. How states become smooth movement is in snapshots.js, one's own boat in helm.js, and the picture in water.js.

import { watch } from "./banner.js";
import { element, find, say } from "./elements.js";
import { Helm, isDeep } from "./helm.js";
import { Snapshots, turnTo } from "./snapshots.js";
import { LiveSocket } from "./socket.js";
import { config, format, strings } from "./strings.js";
import { Water } from "./water.js";

const KEYS = {
  ArrowLeft: "left", KeyA: "left",
  ArrowRight: "right", KeyD: "right",
  ArrowUp: "ahead", KeyW: "ahead",
};
const BOT = "bot";

const stage = find("stage");
const canvas = find("canvas");
const announcer = find("announce");
const clock = find("clock");
const result = find("result");
const held = new Set();
const snapshots = new Snapshots();
let water = null;
let helm = null;
let me = null;
let pointer = null;
let crew = { boats: [], results: [] };
let byId = new Map();
let drawn = { boats: [], buoys: [] };
let shownScores = "";
let shownRest = "";
let saidLast = 0;

const socket = watch(new LiveSocket(config.socket));
const announce = (sentence) => (announcer.textContent = sentence);
const own = () => drawn.boats.find((boat) => boat.mine);
const nameOf = ({ id, name }) => (id === BOT ? strings.bot : name);

// Steering

function wish() {
  const boat = own();
  if (pointer && boat) {
    const distance = Math.hypot(pointer.x - boat.x, pointer.y - boat.y);
    const off = turnTo(Math.atan2(pointer.y - boat.y, pointer.x - boat.x) - boat.heading);
    if (distance < 20) return [0, 0];
    return [Math.round(Math.max(-1, Math.min(1, off * 3)) * 10) / 10, Math.abs(off) > 1.8 ? 0.4 : 1];
  }
  const turn = (held.has("right") ? 1 : 0) - (held.has("left") ? 1 : 0);
  return [turn, held.has("ahead") ? 1 : turn ? 0.4 : 0];
}

function steer() {
  if (helm && byId.has(me)) helm.steer(...wish(), performance.now());
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
  if (!water || !byId.has(me)) return;
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

// Words

function tellNearest() {
  const boat = own();
  if (!boat) return announce(strings.watching);
  const distances = drawn.buoys.map(([, x, y]) => ({ x, y, distance: Math.hypot(x - boat.x, y - boat.y) }));
  const { x, y, distance } = distances.reduce((near, each) => (each.distance < near.distance ? each : near));
  const off = turnTo(Math.atan2(y - boat.y, x - boat.x) - boat.heading);
  const sideways = off > 0 ? strings.right : strings.left;
  const direction = Math.abs(off) < 0.35 ? strings.ahead : Math.abs(off) > 2.4 ? strings.behind : sideways;
  const depth = isDeep(boat, water.world) ? strings.deep : strings.shallow;
  announce(format(strings.nearest, { distance: Math.round(distance), direction, water: depth }));
}
find("where").addEventListener("click", tellNearest);

const leaderOf = ({ boats }) => boats.reduce((lead, boat) => (boat.score > (lead?.score ?? 0) ? boat : lead), null);

// One sentence for what has changed: the one that matters most.
function tellChanges(old, next) {
  if (next.rests && !old.rests) return announce(outcome(next.results[0]));
  if (next.round !== old.round) return announce(format(strings.round, { number: next.round }));
  const mine = byId.get(me);
  const before = old.boats.find((boat) => boat.id === me);
  const leader = leaderOf(next);
  const others = next.boats.filter((boat) => boat.id !== me);
  const newcomer = others.find((boat) => !old.boats.some((each) => each.id === boat.id));
  const gone = old.boats.find((boat) => !byId.has(boat.id));
  if (mine && before && mine.score > before.score) announce(format(strings.caught, { score: mine.score }));
  else if (leader && leader.id !== me && leader.id !== leaderOf(old)?.id) announce(format(strings.overtaken, { name: nameOf(leader), score: leader.score }));
  else if (newcomer) announce(format(strings.entered, { name: nameOf(newcomer) }));
  else if (gone) announce(format(strings.leftGame, { name: nameOf(gone) }));
}

// Who won, and with which score; nobody with none.
function winners({ ranking }) {
  const best = ranking.length ? ranking[0][2] : 0;
  const first = ranking.filter(([, , score]) => best && score === best);
  return { score: best, ids: first.map(([id]) => id), names: first.map(([id, name]) => nameOf({ id, name })).join(strings.between) };
}

function outcome(round) {
  const { score, ids, names } = winners(round);
  if (!score) return strings.noWinner;
  if (ids.length > 1) return format(strings.draw, { names, score });
  return ids[0] === me ? format(strings.youWin, { score }) : format(strings.wins, { name: names, score });
}

function summary(round) {
  const { score, names } = winners(round);
  return score ? format(strings.won, { names, score }) : strings.nobody;
}

// Lists

function row(id, name, score, away) {
  const mark = id === me ? strings.markYou : away ? strings.markAway : null;
  const whose = element("span", {}, nameOf({ id, name }), mark ? element("span", { class: "muted" }, mark) : null);
  return element("li", { class: id === me ? "mine" : away ? "away" : "" }, whose, element("b", {}, String(score)));
}

function showCrew() {
  const key = JSON.stringify([crew.boats, crew.results]);
  if (key === shownScores) return;
  shownScores = key;
  find("boats").textContent = crew.boats.length;
  const ranked = [...crew.boats].sort((one, two) => two.score - one.score || (one.id < two.id ? -1 : 1));
  find("scores").replaceChildren(...ranked.map(({ id, name, score, away }) => row(id, name, score, away)));
  find("rounds-card").hidden = crew.results.length === 0;
  find("rounds").replaceChildren(...crew.results.map((each) => (
    element("li", {}, element("span", { class: "muted" }, format(strings.round, { number: each.number })), element("span", {}, summary(each)))
  )));
  const full = me !== null && !byId.has(me) && crew.boats.length >= config.seats ? strings.full : "";
  const line = find("full");
  if (line.textContent !== full) say(line, full);
}

// The clock, and the result between two rounds.
function showRound(now) {
  if (!crew.round) return;
  const left = Math.max(0, Math.ceil((crew.endsAt - snapshots.serverTime(now)) / 1000));
  const text = crew.rests ? "" : `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
  if (clock.textContent !== text) clock.textContent = text;
  clock.classList.toggle("last", !crew.rests && left <= 10);
  if (!crew.rests && left === 10 && saidLast !== crew.round) {
    saidLast = crew.round;
    announce(strings.tenLeft);
  }
  if (result.hidden === crew.rests) result.hidden = !crew.rests;
  if (!crew.rests) return;
  const next = format(strings.nextRound, { seconds: left });
  if (find("next").textContent !== next) say(find("next"), next);
  const key = JSON.stringify(crew.results[0]);
  if (key === shownRest) return;
  shownRest = key;
  const [last] = crew.results;
  find("winner").textContent = outcome(last);
  find("ranking").replaceChildren(...last.ranking.slice(0, 5).map(([id, name, score]) => row(id, name, score, false)));
}

// What the server says

const handlers = {
  welcome({ me: mine, world }) {
    me = mine;
    if (!water) {
      water = new Water(canvas, world);
      helm = new Helm((content) => socket.send(content), world);
      requestAnimationFrame(draw);
    }
    helm.begin();
  },
  crew(next) {
    const old = crew;
    crew = next;
    byId = new Map(next.boats.map((boat) => [boat.id, boat]));
    if (old.round) tellChanges(old, next);
    else if (me === null) announce(strings.watching);
    showCrew();
  },
  state(next) {
    const now = performance.now();
    snapshots.add(next, now);
    const mine = next.boats.find(([id]) => id === me);
    if (mine) helm.hear(mine, next.at + snapshots.lag, now);
    else helm.forget();
    if (pointer) steer();
  },
  failed() {
    announce(strings.failed);
  },
};

function draw(now) {
  requestAnimationFrame(draw);
  if (me !== null) helm.tell(now);
  const frame = snapshots.frame(now);
  if (frame) {
    const mine = helm.frame(now);
    if (mine) Object.assign(frame.boats.get(me) ?? {}, mine);
    drawn = { boats: [...frame.boats.values()].map(dressed).sort((one, two) => one.mine - two.mine), buoys: frame.buoys };
  }
  water.draw(now, drawn.boats, drawn.buoys);
  showRound(now);
}

function dressed(boat) {
  const { id } = boat;
  const known = byId.get(id) ?? { id, name: "", away: false };
  return { ...boat, name: nameOf(known), away: known.away, mine: id === me, bot: id === BOT };
}

// A page that is not shown draws nothing, and is still there.
setInterval(() => document.hidden && me !== null && helm?.tell(performance.now()), 1000);

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const link = new URL(config.links[button.dataset.copy], location.href).href;
    try {
      await navigator.clipboard.writeText(link);
      announce(strings.copied);
    } catch {
      announce(link); // without permission, or without TLS
    }
  });
}

socket.addEventListener("message", ({ detail }) => handlers[detail.type]?.(detail));
socket.open();
