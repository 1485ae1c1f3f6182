// The line at the top that says that the connection is lost, and that it is back. It speaks for all sockets of the page.

import { find, say } from "./elements.js";
import { strings } from "./strings.js";

const RESTORED_FOR = 3000; // milliseconds; long enough to be read

const banner = find("banner");
const lost = new Set();
let hiding = null;

export function watch(socket) {
  socket.addEventListener("lost", () => {
    lost.add(socket);
    show();
  });
  socket.addEventListener("open", () => {
    if (lost.delete(socket) && lost.size === 0) celebrate();
  });
  return socket;
}

// For a socket that is closed on purpose.
export function forget(socket) {
  if (lost.delete(socket) && lost.size === 0) say(banner, "");
}

function show() {
  clearTimeout(hiding);
  banner.dataset.state = "lost";
  say(banner, strings.lost);
}

function celebrate() {
  banner.dataset.state = "restored";
  say(banner, strings.restored);
  hiding = setTimeout(() => say(banner, ""), RESTORED_FOR);
}
