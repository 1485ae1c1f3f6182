// How long to wait before the next attempt: full jitter, so that a thousand pages that lost one server do not
// come back in the same instant. Randomness is an argument.

export class Backoff {
  constructor({ base = 500, cap = 10_000, random = Math.random } = {}) {
    this.base = base;
    this.cap = cap;
    this.random = random;
    this.attempts = 0;
  }

  // Milliseconds, anywhere between nothing and a bound that doubles with each attempt.
  next() {
    const bound = Math.min(this.cap, this.base * 2 ** this.attempts);
    this.attempts += 1;
    return this.random() * bound;
  }

  reset() {
    this.attempts = 0;
  }
}
