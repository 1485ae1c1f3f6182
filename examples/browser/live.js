// A WebSocket that carries JSON, comes back when it is lost, and knows what was answered. Copy it to your static files.
//
//   const notes = new Live("/ws/notes/");
//   notes.addEventListener("message", ({ detail }) => show(detail));
//   notes.ask({ text: "milk" }).then(saved, notSaved);
//
// Events: "open"; "message", whose `detail` is what came; "lost", once for each loss.

export class Live extends EventTarget {
  // `position`: where the page is in a group with a history. `deadline`: how long a question may go unanswered, in ms.
  constructor(path, { position = null, deadline = 30_000, base = 500, cap = 10_000, random = Math.random } = {}) {
    super();
    this.url = new URL(path, location.href.replace(/^http/, "ws"));
    Object.assign(this, { position, deadline, base, cap, random });
    this.socket = null;
    this.timer = null;
    this.attempts = 0;
    this.lost = false;
    this.asked = new Map(); // what has no answer yet, by reference, the oldest first

    addEventListener("online", () => this.retryNow());
    addEventListener("offline", () => this.drop());
    addEventListener("pagehide", () => this.close());
    addEventListener("pageshow", (event) => event.persisted && this.connect());
    this.connect();
  }

  get isOpen() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  // Whether it was sent. What was not is not kept: whether it is still wanted later, only the page knows.
  send(content) {
    if (this.isOpen) this.socket.send(JSON.stringify(content));
    return this.isOpen;
  }

  // A promise of the server's answer: the message with the same `ref`. Until it comes, every new connection asks again.
  // Rejected when the time is up: then nobody knows whether it has arrived.
  ask(content) {
    const ref = Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("");
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.asked.delete(ref);
        reject(new Error("no answer"));
        this.drop(); // it may look open and be dead
      }, this.deadline);
      this.asked.set(ref, { question: { ...content, ref }, resolve, timer });
      this.send({ ...content, ref });
    });
  }

  // For a button in the banner that says "connection lost".
  retryNow() {
    if (this.timer !== null) this.connect();
  }

  close() {
    clearTimeout(this.timer);
    this.timer = null;
    const socket = this.socket;
    this.socket = null; // so that its end is no loss
    socket?.close();
  }

  connect() {
    this.close();
    if (this.position !== null) this.url.searchParams.set("since", this.position);
    const socket = new WebSocket(this.url.href);
    socket.addEventListener("open", () => socket === this.socket && this.opened());
    socket.addEventListener("message", ({ data }) => socket === this.socket && this.received(JSON.parse(data)));
    socket.addEventListener("close", () => socket === this.socket && this.drop());
    this.socket = socket;
  }

  opened() {
    this.attempts = 0;
    this.lost = false;
    this.dispatchEvent(new Event("open"));
    for (const { question } of this.asked.values()) this.send(question);
  }

  received(content) {
    this.position = content.position ?? this.position;
    const asked = this.asked.get(content.ref);
    if (asked) {
      this.asked.delete(content.ref);
      clearTimeout(asked.timer);
      asked.resolve(content);
    } else {
      this.dispatchEvent(new CustomEvent("message", { detail: content }));
    }
  }

  // Give up a connection, and come back after a while: anywhere between nothing and a bound that doubles, so that a
  // thousand pages that have lost one server do not come back in the same instant.
  drop() {
    if (this.socket === null) return;
    this.close();
    this.timer = setTimeout(() => this.connect(), this.random() * Math.min(this.cap, this.base * 2 ** this.attempts));
    this.attempts += 1;
    if (this.lost) return;
    this.lost = true;
    this.dispatchEvent(new Event("lost"));
  }
}
