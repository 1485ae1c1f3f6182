// A keyboard can scroll only what it can reach: code and tables that are wider than the page, and no others.

import { find } from "./elements.js";

const watch = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});

for (const box of find("document").querySelectorAll("pre, .wide")) watch.observe(box);
