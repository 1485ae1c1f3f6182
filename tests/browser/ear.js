// Listens to the page as a screen reader does: what it would say by itself stands in `heard`. It says what is put into a live region
// (WAI-ARIA 1.2, 6.6.3 and 5.3.2: aria-live, and the roles that imply it) that it knows already, that is shown and is not busy; or is no
// longer hidden in one.
(() => {
  const IMPLIED = { alert: "assertive", log: "polite", status: "polite", timer: "off", marquee: "off" };
  const ATOMIC = new Set(["alert", "status"]);
  window.heard = [];

  const howLive = (element) => element.getAttribute("aria-live") ?? IMPLIED[element.getAttribute("role")];
  const isShown = (element) => element.checkVisibility({ visibilityProperty: true });
  const regionOf = (element) => {
    let each = element;
    while (each && howLive(each) === undefined) each = each.parentElement;
    return each && howLive(each) !== "off" && isShown(each) && !each.closest("[aria-busy='true']") ? each : null;
  };
  const textOf = (node) => {
    if (node.nodeType === Node.TEXT_NODE) return node.textContent;
    if (node.nodeType !== Node.ELEMENT_NODE || node.matches("[aria-hidden='true']") || !isShown(node)) return "";
    return node.getAttribute("aria-label") ?? [...node.childNodes].map(textOf).join(" ");
  };

  const ear = new MutationObserver((changes) => {
    const said = new Set(); // by what was put there, or by the region that is read as a whole
    const unveiled = changes.filter(({ type }) => type === "attributes").map(({ target }) => target);
    for (const { type, target, addedNodes } of changes) {
      for (const node of type === "childList" ? addedNodes : [target]) {
        if (!node.isConnected) continue;
        const region = regionOf(node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement);
        if (!region || node.contains(region) || unveiled.some((each) => each.contains(region))) continue;
        said.add(ATOMIC.has(region.getAttribute("role")) ? region : node);
      }
    }
    for (const node of said) {
      // What is in something else that is new is said with it.
      if ([...said].some((other) => other !== node && other.contains(node))) continue;
      const words = textOf(node).replace(/\s+/g, " ").trim();
      if (words) heard.push(words);
    }
  });
  const wanted = { subtree: true, childList: true, characterData: true, attributeFilter: ["hidden"] };
  addEventListener("DOMContentLoaded", () => ear.observe(document, wanted));
})();
