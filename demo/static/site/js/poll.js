// By long-polling: a request that waits until there is something to say, and after its answer the next one. Each says how far the
// page is, so nothing is missed between two of them.

import { OneWay } from "./oneway.js";

export class LivePoll extends OneWay {
  constructor(path, actions, { known = {}, ...options } = {}) {
    super(path, actions, options);
    this.known = known;
    this.isOpen = false;
  }

  begin() {
    const poll = new AbortController();
    this.poll(poll);
    return poll;
  }

  end(poll) {
    this.isOpen = false;
    poll.abort();
  }

  async poll(poll) {
    try {
      while (!poll.signal.aborted) this.take(poll, await this.ask(poll.signal));
    } catch {
      this.drop(poll);
    }
  }

  async ask(signal) {
    const query = new URLSearchParams(this.known);
    // The first answer shows that the connection is there, so it must not wait.
    if (!this.isOpen) query.set("wait", "0");
    const answer = await fetch(`${this.path}?${query}`, { signal, cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    return answer.json();
  }

  take(poll, { after, version, messages }) {
    if (poll !== this.connection) return;
    this.known = { after, version };
    if (!this.isOpen) {
      this.isOpen = true;
      this.opened(poll);
    }
    for (const content of messages) this.received(poll, content);
  }
}
