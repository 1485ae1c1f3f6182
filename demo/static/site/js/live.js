// A connection that carries JSON and comes back when it is lost, whatever it travels by: see socket.js, stream.js and poll.js.
//
// It never sends anything twice and keeps nothing to send later: send() answers whether the connection was open, and what to do
// otherwise is for the page to decide. Events: "open", "message" (its `detail` is the content), "lost" (once per loss).
//
// A subclass says how to begin() a connection, which returns what identifies it, and how to end() one.

import { Backoff } from "./backoff.js";

export class Live extends EventTarget {
  constructor({ backoff = new Backoff() } = {}) {
    super();
    this.backoff = backoff;
    this.connection = null;
    this.timer = null;
    this.wanted = false;
    this.lost = false;
    this.retryAt = Infinity; // when the next attempt is, if one is planned (milliseconds, as Date.now())

    this.retryNow = () => this.timer !== null && this.connect();
    this.noticeOffline = () => this.connection && this.drop(this.connection);
    // A page that is left must not count as a lost connection; one that is shown again from the browser's memory must connect.
    this.leave = () => this.disconnect();
    this.comeBack = (event) => event.persisted && this.wanted && this.connect();
  }

  open() {
    this.wanted = true;
    addEventListener("online", this.retryNow);
    addEventListener("offline", this.noticeOffline);
    addEventListener("pagehide", this.leave);
    addEventListener("pageshow", this.comeBack);
    this.connect();
    return this;
  }

  close() {
    this.wanted = false;
    removeEventListener("online", this.retryNow);
    removeEventListener("offline", this.noticeOffline);
    removeEventListener("pagehide", this.leave);
    removeEventListener("pageshow", this.comeBack);
    this.disconnect();
  }

  // Give up on a connection that looks open and answers nothing.
  renew() {
    if (this.connection) this.drop(this.connection);
  }

  // The visitor does not want to wait for the next attempt.
  retry() {
    if (this.wanted && this.lost) this.connect();
  }

  connect() {
    this.disconnect();
    this.connection = this.begin();
  }

  disconnect() {
    clearTimeout(this.timer);
    this.timer = null;
    this.retryAt = Infinity;
    const connection = this.connection;
    this.connection = null;
    if (connection) this.end(connection);
  }

  opened(connection) {
    if (connection !== this.connection) return;
    this.backoff.reset();
    this.lost = false;
    this.dispatchEvent(new Event("open"));
  }

  received(connection, content) {
    if (connection === this.connection) this.tell(content);
  }

  tell(content) {
    this.dispatchEvent(new CustomEvent("message", { detail: content }));
  }

  drop(connection) {
    if (connection !== this.connection) return;
    this.disconnect();
    const delay = this.backoff.next();
    this.timer = setTimeout(() => this.connect(), delay);
    this.retryAt = Date.now() + delay;
    this.notice();
  }

  notice() {
    if (this.lost) return;
    this.lost = true;
    this.dispatchEvent(new Event("lost"));
  }
}
