// From the server's states, which come late and unevenly, to where everything is now: shown a little in the past, between two
// states that are there. How much in the past follows the line: what is late on it, and no more. Knows no canvas and no socket.
// Times are in milliseconds; `at` is the server's clock, `now` the page's.

const REMEMBERED = 4000; // of arrivals, to judge the line by
const LEAST_BUFFER = 80;
const MOST_BUFFER = 450;
const GUESSED = 200; // how far things sail on by themselves when nothing comes
const FADES = 150;
const CATCHES_UP = 350; // metres a second
const NEW_ERA = 3000; // a gap after which nothing glides: boats are where they are

export const turnTo = (angle) => Math.atan2(Math.sin(angle), Math.cos(angle));

// What a boat is drawn beside its place goes by itself: quickly, but never so that the boat seems to fly.
export function fade(error, elapsed) {
  const far = Math.hypot(error.x, error.y);
  const part = far ? Math.min(1 - Math.exp(-elapsed / FADES), (CATCHES_UP * elapsed) / 1000 / far) : 0;
  error.x -= error.x * part;
  error.y -= error.y * part;
  error.heading *= Math.exp(-elapsed / FADES);
}

const limit = (value, low, high) => Math.max(low, Math.min(high, value));

export class Snapshots {
  constructor() {
    this.reset();
  }

  reset() {
    this.states = [];
    this.arrivals = [];
    this.lag = null; // of the quickest states: now - at
    this.buffer = 120;
    this.shownAt = null;
    this.lastFrame = null;
    this.errors = new Map();
  }

  get newest() {
    return this.states.at(-1);
  }

  // The server's clock, as far as the quickest states tell.
  serverTime(now) {
    return this.lag === null ? 0 : now - this.lag;
  }

  add(state, now) {
    const newest = this.newest;
    if (newest && (state.at <= newest.at || state.at - newest.at > NEW_ERA)) this.reset();
    const before = this.shownAt === null ? null : this.sample(this.shownAt);
    this.states.push({ at: state.at, buoys: state.buoys, boats: new Map(state.boats.map((boat) => [boat[0], boat])) });
    this.judge(now, now - state.at);
    if (before) this.smooth(before, this.sample(this.shownAt));
  }

  judge(now, lag) {
    this.arrivals.push({ now, lag });
    while (this.arrivals[0].now < now - REMEMBERED) this.arrivals.shift();
    const lags = this.arrivals.map((arrival) => arrival.lag).sort((one, two) => one - two);
    this.lag = lags[0];
    const late = lags[Math.floor((lags.length - 1) * 0.95)] - lags[0];
    const wanted = limit(late + 55, LEAST_BUFFER, MOST_BUFFER);
    // It grows at once, and shrinks slowly.
    this.buffer = Math.max(wanted, this.buffer + (wanted - this.buffer) * 0.03);
  }

  // What has just come may say that things are elsewhere than was guessed: they move there, and do not jump.
  smooth(before, after) {
    for (const [id, boat] of after.boats) {
      const old = before.boats.get(id);
      if (!old) continue;
      const error = this.errors.get(id) ?? { x: 0, y: 0, heading: 0 };
      this.errors.set(id, {
        x: error.x + old.x - boat.x,
        y: error.y + old.y - boat.y,
        heading: turnTo(error.heading + old.heading - boat.heading),
      });
    }
  }

  // Everything as it is to be drawn in this frame, or null.
  frame(now) {
    if (this.lag === null) return null;
    const elapsed = this.lastFrame === null ? 0 : now - this.lastFrame;
    this.lastFrame = now;
    const wanted = now - this.lag - this.buffer;
    const off = this.shownAt === null ? Infinity : wanted - (this.shownAt + elapsed);
    // The clock of what is shown runs a little faster or slower until it is right.
    this.shownAt = Math.abs(off) > 700 ? wanted : this.shownAt + elapsed + limit(off * 0.05, -0.2 * elapsed, 0.2 * elapsed);
    while (this.states.length > 2 && this.states[1].at <= this.shownAt) this.states.shift();
    const shown = this.sample(this.shownAt);
    for (const [id, error] of this.errors) {
      const boat = shown.boats.get(id);
      if (!boat || Math.abs(error.x) + Math.abs(error.y) < 0.05) {
        this.errors.delete(id);
        continue;
      }
      fade(error, elapsed);
      for (const name of ["x", "y", "heading"]) boat[name] += error[name];
    }
    return shown;
  }

  sample(at) {
    const after = this.states.find((state) => state.at >= at) ?? this.newest;
    const before = this.states[Math.max(0, this.states.indexOf(after) - 1)];
    const part = after === before ? 1 : limit((at - before.at) / (after.at - before.at), 0, 1);
    const beyond = limit(at - after.at, 0, GUESSED) / 1000;
    const boats = new Map();
    for (const [id, [, x, y, heading, speed]] of after.boats) {
      const [, oldX, oldY, oldHeading] = before.boats.get(id) ?? [id, x, y, heading];
      boats.set(id, {
        id,
        speed,
        x: oldX + (x - oldX) * part + Math.cos(heading) * speed * beyond,
        y: oldY + (y - oldY) * part + Math.sin(heading) * speed * beyond,
        heading: oldHeading + turnTo(heading - oldHeading) * part,
      });
    }
    return { boats, buoys: after.buoys };
  }
}
