// For a connection that only brings: what the page does goes in requests of its own, and their answers arrive as messages do.

import { Live } from "./live.js";

export class OneWay extends Live {
  constructor(path, actions, options) {
    super(options);
    this.path = path;
    this.actions = actions;
  }

  send(content) {
    if (!this.isOpen) return false;
    this.post(content);
    return true;
  }

  async post(content) {
    const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
    const headers = { "Content-Type": "application/json", "X-CSRFToken": token };
    try {
      // It is to arrive even if the page is left by a link in the same instant.
      const answer = await fetch(this.actions, { method: "POST", headers, body: JSON.stringify(content), keepalive: true });
      if (!answer.ok) throw new Error(answer.statusText);
      this.tell(await answer.json());
    } catch {
      this.tell({ type: "notice", code: "notSent" });
    }
  }
}
