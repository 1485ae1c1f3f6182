// A small round picture for everybody: the first letter of the name, on a colour that belongs to the person.

import { element } from "./elements.js";

const HUES = 24; // neighbours are still told apart

export function face(id, name) {
  const made = element("span", { class: "face", "aria-hidden": "true" }, [...name][0]?.toUpperCase() ?? "");
  // The golden angle: people who came one after the other are far apart on the circle of colours.
  made.style.setProperty("--hue", String(Math.round(((id * 137.508) % 360) / (360 / HUES)) * (360 / HUES)));
  return made;
}
