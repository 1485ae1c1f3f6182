// By WebSocket: one connection, both ways. `query()` gives what each new connection is to say in its address.

import { Live } from "./live.js";

export class LiveSocket extends Live {
  constructor(path, { query = () => ({}), ...options } = {}) {
    super(options);
    this.url = new URL(path, location.href.replace(/^http/, "ws"));
    this.query = query;
  }

  get isOpen() {
    return this.connection?.readyState === WebSocket.OPEN;
  }

  send(content) {
    if (!this.isOpen) return false;
    this.connection.send(JSON.stringify(content));
    return true;
  }

  begin() {
    this.url.search = new URLSearchParams(this.query());
    const socket = new WebSocket(this.url.href);
    socket.addEventListener("open", () => this.opened(socket));
    socket.addEventListener("message", (event) => this.received(socket, JSON.parse(event.data)));
    socket.addEventListener("close", () => this.drop(socket));
    return socket;
  }

  end(socket) {
    // Closing one that is still connecting would be reported as an error on the console.
    if (socket.readyState === WebSocket.CONNECTING) socket.addEventListener("open", () => socket.close());
    else socket.close();
  }
}
