// Addresses in what people write become links; everything else stays text.

import { element } from "./elements.js";

// No invisible characters: some turn the direction of what follows, and so make another address of it for a reader.
const ADDRESS = /https?:\/\/[^\s\p{Cc}\p{Cf}<>"'“”‘’「」『』《》]+/giu;
// What closes a sentence, or a bracket around the address, is not part of it.
const TRAILING = /[.,;:!?)\]}，。；：！？）】、…]+$/u;

// The text in pieces: strings, and links to the addresses in it.
export function linked(text) {
  const pieces = [];
  let end = 0;
  for (const { 0: found, index } of text.matchAll(ADDRESS)) {
    const address = found.replace(TRAILING, "");
    if (!isWeb(address)) continue;
    pieces.push(text.slice(end, index), link(address));
    end = index + address.length;
  }
  pieces.push(text.slice(end));
  return pieces.filter((piece) => piece !== "");
}

// In "example.org@other.example" the site is the other one, which few people see.
function isWeb(address) {
  try {
    const { protocol, username, password } = new URL(address);
    return ["http:", "https:"].includes(protocol) && !username && !password;
  } catch {
    return false;
  }
}

// The other site gets neither this window nor the address of this page.
function link(address) {
  return element("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow ugc" }, address);
}
