// A WebSocket that speaks JSON and comes back when it is lost.
//
// It never sends anything twice and keeps nothing to send later: send() answers whether the socket was open, and what to do
// otherwise is for the page to decide. Events: "open", "message" (its `detail` is the content), "lost" (once per loss).

import { Backoff } from "./backoff.js";

export class LiveSocket extends EventTarget {
  constructor(path, { backoff = new Backoff() } = {}) {
    super();
    this.url = new URL(path, location.href.replace(/^http/, "ws")).href;
    this.backoff = backoff;
    this.socket = null;
    this.timer = null;
    this.wanted = false;
    this.lost = false;

    this.retryNow = () => this.timer !== null && this.connect();
    this.noticeOffline = () => this.socket && this.drop(this.socket);
    // A page that is left must not count as a lost connection; one that is shown again from the browser's memory must connect.
    this.leave = () => this.disconnect();
    this.comeBack = (event) => event.persisted && this.wanted && this.connect();
  }

  get isOpen() {
    return this.socket?.readyState === WebSocket.OPEN;
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

  send(content) {
    if (!this.isOpen) return false;
    this.socket.send(JSON.stringify(content));
    return true;
  }

  // Give up on a connection that looks open and answers nothing.
  renew() {
    if (this.socket) this.drop(this.socket);
  }

  connect() {
    this.disconnect();
    const socket = new WebSocket(this.url);
    this.socket = socket;
    socket.addEventListener("open", () => this.opened(socket));
    socket.addEventListener("message", (event) => this.received(socket, event));
    socket.addEventListener("close", () => this.drop(socket));
  }

  disconnect() {
    clearTimeout(this.timer);
    this.timer = null;
    const socket = this.socket;
    this.socket = null;
    // Closing one that is still connecting would be reported as an error on the console.
    if (socket?.readyState === WebSocket.CONNECTING) socket.addEventListener("open", () => socket.close());
    else socket?.close();
  }

  opened(socket) {
    if (socket !== this.socket) return;
    this.backoff.reset();
    this.lost = false;
    this.dispatchEvent(new Event("open"));
  }

  received(socket, event) {
    if (socket !== this.socket) return;
    this.dispatchEvent(new CustomEvent("message", { detail: JSON.parse(event.data) }));
  }

  drop(socket) {
    if (socket !== this.socket) return;
    this.disconnect();
    this.timer = setTimeout(() => this.connect(), this.backoff.next());
    if (this.lost) return;
    this.lost = true;
    this.dispatchEvent(new Event("lost"));
  }
}
