// The page with live figures: it sends pulses, measures how long they take to come back, and can bring in a crowd of visitors.

import { watch } from "./banner.js";
import { enable, find, isEnabled, say } from "./elements.js";
import { LiveSocket } from "./socket.js";
import { config, format, strings } from "./strings.js";

const PULSE_EVERY = 100; // milliseconds
const KEPT = 300; // pulses; what the percentiles are about
const SHOWN = 60; // seconds in the curve

const bring = find("bring");
const notice = find("notice");
const timeLeft = find("left");
const sent = new Map(); // when, by id
const rates = [];
let times = [];
let page = null;
let number = 0;
let arrived = 0; // at this page, since the last second
let crowd = null;

const show = (name, text) => (document.querySelector(`[data-figure="${name}"]`).textContent = text);
const written = new Intl.NumberFormat(document.documentElement.lang, { maximumFractionDigits: 1 });
const milliseconds = (value) => format(strings.milliseconds, { count: written.format(value) });

function percentile(share) {
  const sorted = [...times].sort((one, other) => one - other);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

const socket = watch(new LiveSocket("/ws/speed/"));

function pulse() {
  number += 1;
  if (sent.size > KEPT) sent.clear(); // the server leaves out pulses when too many pages send some
  if (socket.send({ type: "pulse", id: number })) sent.set(number, performance.now());
}

function draw() {
  const top = Math.max(10, ...rates);
  const points = rates.map((rate, index) => `${(index * 600) / (SHOWN - 1)},${76 - (rate / top) * 72}`);
  find("spark").setAttribute("points", points.join(" "));
}

// Only the sentence is read out, and once: seconds that run down would be read out each.
function tell(sentence, left = "") {
  if (notice.textContent !== sentence) say(notice, sentence);
  say(timeLeft, left);
}

const handlers = {
  hello({ page: mine, worker, http, tls }) {
    page = mine;
    sent.clear();
    show("worker", String(worker));
    show("transport", format(tls ? strings.transportTls : strings.transport, { version: http }));
    if (bring) enable(bring, true);
  },
  pulse(message) {
    arrived += 1;
    if (message.page !== page || !sent.has(message.id)) return;
    times.push(performance.now() - sent.get(message.id));
    times = times.slice(-KEPT);
    sent.delete(message.id);
  },
  figures({ sockets, dropped }) {
    show("sockets", written.format(sockets));
    show("dropped", written.format(dropped));
    const rate = arrived + (crowd?.deliveries ?? 0);
    arrived = 0;
    show("deliveries", written.format(rate));
    rates.push(rate);
    if (rates.length > SHOWN) rates.shift();
    draw();
    if (!times.length) return;
    show("p50", milliseconds(percentile(0.5)));
    show("p99", milliseconds(percentile(0.99)));
  },
  crowd(told) {
    const isOver = told.visitors === 0 && told.left === 0;
    if (!crowd) times = []; // from here on, percentiles are about the time with a crowd
    crowd = isOver ? null : told;
    if (bring) enable(bring, isOver);
    const { visitors: count, left } = told;
    tell(
      isOver ? format(strings.over, { p99: written.format(percentile(0.99) ?? 0) }) : format(strings.here, { count: written.format(count) }),
      isOver ? "" : format(strings.left, { seconds: Math.max(0, Math.round(left)) }),
    );
  },
  notice({ code }) {
    tell(strings[code] ?? strings.unknown);
    if (bring) enable(bring, true);
  },
};

bring?.addEventListener("click", () => {
  if (!isEnabled(bring) || !socket.send({ type: "bring" })) return;
  tell(strings.coming);
  enable(bring, false);
});

socket.addEventListener("message", ({ detail }) => handlers[detail.type]?.(detail));
socket.addEventListener("lost", () => bring && enable(bring, false));
socket.open();
setInterval(pulse, PULSE_EVERY);
