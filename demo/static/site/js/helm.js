// One's own boat: what one steers goes to the server, and the boat answers at once. It moves here by the rules of `game/world.py`,
// from where the server last had it, through everything that was steered since. The server decides: what it says later replaces
// what was guessed, gently. Knows no canvas and no socket. Times are in milliseconds of the page's clock.

import { fade, turnTo } from "./snapshots.js";

const EVERY = 50; // between two inputs
const STILL_HERE = 1000;
const FARTHEST = 900; // how far into the future a boat is guessed
const TOO_FAR = 250; // for a boat to glide there
const STEP = 1 / 60;
const REST = { turn: 0, throttle: 0 };

const limit = (value, low, high) => Math.max(low, Math.min(high, value));

export class Helm {
  // `send(content)` answers whether it was sent; `world` is the shape of the world, with its rules.
  constructor(send, world) {
    this.send = send;
    this.world = world;
    this.wanted = REST;
    this.seq = Math.floor(Math.random() * 2 ** 30); // no other tab's
    this.sentAt = -Infinity;
    this.isTold = false;
    this.inputs = [];
    this.trip = 100; // from an input to the state that shows it
    this.known = null;
    this.error = { x: 0, y: 0, heading: 0 };
    this.lastFrame = null;
  }

  // A new connection: the server may not know what was steered. It is said again.
  begin() {
    this.isTold = false;
    this.sentAt = -Infinity;
  }

  // There is no boat.
  forget() {
    this.begin();
    this.inputs = [];
    this.known = null;
  }

  steer(turn, throttle, now) {
    this.wanted = { turn, throttle };
    this.tell(now);
  }

  // Call it often: it says what is to be said, and no more.
  tell(now) {
    const told = this.inputs.at(-1) ?? REST;
    const isNews = !this.isTold || told.turn !== this.wanted.turn || told.throttle !== this.wanted.throttle;
    if (now - this.sentAt < (isNews ? EVERY : STILL_HERE)) return;
    if (!isNews && this.wanted.turn === 0 && this.wanted.throttle === 0) {
      if (this.send({ type: "here" })) this.sentAt = now;
      return;
    }
    const input = { ...this.wanted, seq: this.seq + 1, at: now };
    const { turn, throttle, seq } = input;
    if (!this.send({ type: "steer", turn, throttle, seq })) return;
    this.seq = seq;
    this.sentAt = now;
    this.isTold = true;
    this.inputs.push(input);
  }

  // The server has said where the boat was. `at`: when it was there, on the page's clock, as the quickest states tell.
  hear([, x, y, heading, speed, seq], at, now) {
    const seen = this.inputs.find((input) => input.seq === seq);
    if (seen && !seen.seen) {
      seen.seen = true;
      this.trip += (limit(at - seen.at, 10, FARTHEST) - this.trip) * 0.25;
    }
    // One input from before is kept: it was in force then.
    while (this.inputs.length > 1 && this.inputs[1].at <= at - this.trip) this.inputs.shift();
    const before = this.known && this.guess(now);
    this.known = { x, y, heading, speed, at };
    if (!before) return;
    const after = this.guess(now);
    const { error } = this;
    for (const name of ["x", "y"]) error[name] += before[name] - after[name];
    error.heading = turnTo(error.heading + before.heading - after.heading);
    if (Math.hypot(error.x, error.y) > TOO_FAR) this.error = { x: 0, y: 0, heading: 0 };
  }

  // Where the boat is in this frame.
  frame(now) {
    if (!this.known) return null;
    const elapsed = this.lastFrame === null ? 0 : now - this.lastFrame;
    this.lastFrame = now;
    const boat = this.guess(now);
    fade(this.error, elapsed);
    for (const name of ["x", "y", "heading"]) boat[name] += this.error[name];
    return boat;
  }

  guess(now) {
    const boat = { ...this.known };
    let time = this.known.at - this.trip;
    const end = Math.min(now, time + FARTHEST);
    for (; time < end; time += STEP * 1000) {
      const input = this.inputs.findLast((each) => each.at <= time) ?? REST;
      move(boat, input, Math.min(STEP, (end - time) / 1000), this.world);
    }
    return boat;
  }
}

export function isDeep({ x, y }, world) {
  return Math.abs(y - centre(x, world)) < world.halfWidth;
}

export function centre(x, world) {
  return world.height / 2 + world.amplitude * Math.sin((2 * Math.PI * x) / world.width);
}

function move(boat, { turn, throttle }, seconds, world) {
  const wanted = throttle * (isDeep(boat, world) ? world.speedDeep : world.speedShallow);
  const change = world.acceleration * seconds;
  boat.speed += limit(wanted - boat.speed, -change, change);
  boat.heading += turn * world.turnRate * seconds;
  boat.x = limit(boat.x + Math.cos(boat.heading) * boat.speed * seconds, world.margin, world.width - world.margin);
  boat.y = limit(boat.y + Math.sin(boat.heading) * boat.speed * seconds, world.margin, world.height - world.margin);
}
