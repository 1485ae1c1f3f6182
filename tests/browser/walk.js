// What the Tab key is to reach, and whether one sees where it is. `walk.step()` tells of the element that has the focus: its place in
// the order of the page, and what is wrong with it.
(() => {
  const SELECTOR = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]";
  const describe = (element) => `<${element.tagName.toLowerCase()} class="${element.className}"> ${element.textContent.trim().slice(0, 30)}`;

  // Of a group of radio buttons, the chosen one.
  const reachable = () => [...document.querySelectorAll(SELECTOR)].filter((element) => (
    element.tabIndex >= 0 && !element.disabled && element.checkVisibility({ visibilityProperty: true }) && !(element.type === "radio" && !element.checked)
  ));

  // An outline around it, around what stands for it on its card, or around its group.
  const isMarked = (element) => {
    const styles = [getComputedStyle(element), getComputedStyle(element, "::after")];
    const group = element.closest(".segments");
    if (group) styles.push(getComputedStyle(group));
    return styles.some(({ outlineStyle, outlineWidth }) => outlineStyle !== "none" && parseFloat(outlineWidth) >= 2);
  };

  // WCAG 2.2, 2.4.11: at least a part of it is not behind something else.
  const isSeen = (element) => {
    const box = element.getBoundingClientRect();
    const [left, top] = [Math.max(0, box.left), Math.max(0, box.top)];
    const [width, height] = [Math.min(innerWidth, box.right) - left, Math.min(innerHeight, box.bottom) - top];
    const places = [[0.5, 0.5], [0.1, 0.2], [0.9, 0.2], [0.1, 0.8], [0.9, 0.8]];
    return places.some(([x, y]) => {
      const hit = document.elementFromPoint(left + x * width, top + y * height);
      return hit && (element.contains(hit) || hit.contains(element) || (element.closest("label")?.contains(hit) ?? false));
    });
  };

  window.walk = {
    count: () => reachable().length,
    step() {
      const element = document.activeElement;
      if (element === document.body) return { place: -1, faults: [] };
      const faults = [];
      if (!isMarked(element)) faults.push(`one does not see that it has the focus: ${describe(element)}`);
      if (!isSeen(element)) faults.push(`has the focus and lies behind something: ${describe(element)}`);
      return { place: reachable().indexOf(element), faults };
    },
  };
})();
