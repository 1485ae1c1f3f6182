// The line at the top that says that the connection is lost, when the next attempt is, and that it is back. It speaks for all
// connections of the page. Only the sentence is a status that is read out: seconds that run down would be read out each.

import { find, say } from "./elements.js";
import { format, strings } from "./strings.js";

const RESTORED_FOR = 3000; // milliseconds; long enough to be read

const banner = find("banner");
const words = find("banner-words");
const wait = find("banner-wait");
const retry = find("banner-retry");
const lost = new Set();
let counting = null;
let hiding = null;

export function watch(live) {
  live.addEventListener("lost", () => {
    lost.add(live);
    show();
  });
  live.addEventListener("open", () => {
    if (lost.delete(live) && lost.size === 0) celebrate();
  });
  return live;
}

// For a connection that is closed on purpose.
export function forget(live) {
  if (lost.delete(live) && lost.size === 0) clear();
}

function show() {
  clearTimeout(hiding);
  banner.dataset.state = "lost";
  if (words.textContent !== strings.lost) words.textContent = strings.lost;
  retry.hidden = false;
  counting ??= setInterval(count, 250);
  count();
}

function count() {
  const seconds = Math.ceil((Math.min(...[...lost].map((live) => live.retryAt)) - Date.now()) / 1000);
  say(wait, Number.isFinite(seconds) && seconds > 0 ? format(strings.nextTry, { seconds }) : strings.trying);
}

function celebrate() {
  clear();
  banner.dataset.state = "restored";
  words.textContent = strings.restored;
  hiding = setTimeout(clear, RESTORED_FOR);
}

function clear() {
  clearInterval(counting);
  counting = null;
  banner.dataset.state = "";
  words.textContent = "";
  say(wait, "");
  if (document.activeElement === retry) document.querySelector("main").focus({ preventScroll: true });
  retry.hidden = true;
}

retry.addEventListener("click", () => lost.forEach((live) => live.retry()));
