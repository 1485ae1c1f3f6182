// The title of the page, with the number of things that nobody has looked at yet: "(3) Harbour · Chat · Fairway".

import { short } from "./strings.js";

const counts = new Map();
let title = document.title;

function show() {
  const sum = [...counts.values()].reduce((total, count) => total + count, 0);
  const shown = sum ? `(${short(sum)}) ${title}` : title;
  if (document.title !== shown) document.title = shown;
}

export function setTitle(text) {
  title = text;
  show();
}

// Each part of the page counts under its own name.
export function setCount(name, count) {
  counts.set(name, count);
  show();
}
