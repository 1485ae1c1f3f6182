// By Server-Sent Events: one answer that stays open. The browser comes back by itself and says which event it has seen last; only
// when it has given up does the page begin anew, and says the same in the query.

import { OneWay } from "./oneway.js";

export class LiveStream extends OneWay {
  constructor(path, actions, { seen = null, ...options } = {}) {
    super(path, actions, options);
    this.seen = seen;
  }

  get isOpen() {
    return this.connection?.readyState === EventSource.OPEN;
  }

  begin() {
    const source = new EventSource(this.seen === null ? this.path : `${this.path}?lastEventId=${encodeURIComponent(this.seen)}`);
    source.addEventListener("open", () => this.opened(source));
    source.addEventListener("message", (event) => {
      this.seen = event.lastEventId;
      this.received(source, JSON.parse(event.data));
    });
    source.addEventListener("error", () => this.failed(source));
    return source;
  }

  end(source) {
    source.close();
  }

  failed(source) {
    if (source !== this.connection) return;
    if (source.readyState === EventSource.CLOSED) this.drop(source);
    else this.notice();
  }
}
