// Looks at the page that is open and returns what is wrong with it, as sentences: controls without a name, ids used twice, text without
// enough contrast (WCAG 2.2 AA, 1.4.3), targets too small (2.5.8), and content wider than the window.
() => {
  const faults = [];
  const visible = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && element.getClientRects().length > 0;
  const describe = (element) => `<${element.tagName.toLowerCase()} class="${element.getAttribute("class") ?? ""}"> ${element.textContent.trim().slice(0, 30)}`;

  const named = (element) => {
    const label = [...(element.labels ?? [])].map((each) => each.textContent).join("");
    return (element.getAttribute("aria-label") || label || (element.matches("input, select, textarea") ? "" : element.textContent)).trim();
  };
  for (const element of document.querySelectorAll("a, button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']")) {
    if (!visible(element)) continue;
    if (!named(element)) faults.push(`no name: ${describe(element)}`);
    const box = element.getBoundingClientRect();
    const inText = element.matches("p a, .document a, .card.link a");
    if (!inText && !element.matches(".skip") && Math.min(box.width, box.height) < 24) faults.push(`target too small: ${describe(element)}`);
  }

  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of new Set(ids)) if (ids.filter((each) => each === id).length > 1) faults.push(`id used twice: ${id}`);
  for (const attribute of ["aria-labelledby", "aria-describedby", "for"]) {
    for (const element of document.querySelectorAll(`[${attribute}]`)) {
      for (const id of element.getAttribute(attribute).split(/\s+/)) if (!ids.includes(id)) faults.push(`${attribute} points nowhere: ${id}`);
    }
  }
  if (document.querySelectorAll("h1").length !== 1) faults.push("not exactly one h1");

  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const paint = (colours) => {
    pen.clearRect(0, 0, 1, 1);
    for (const colour of colours) {
      pen.fillStyle = colour;
      pen.fillRect(0, 0, 1, 1);
    }
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !visible(element) || element.closest("script, canvas, option, :disabled, [aria-hidden=true]")) continue;
    const backgrounds = [];
    let onPicture = false;
    for (let each = element; each; each = each.parentElement) {
      const style = getComputedStyle(each);
      if (style.backgroundImage.includes("gradient")) onPicture = true;
      backgrounds.unshift(style.backgroundColor);
    }
    if (onPicture) continue;
    const style = getComputedStyle(element);
    const back = luminance(paint(["white", ...backgrounds]));
    const front = luminance(paint(["white", ...backgrounds, style.color]));
    const contrast = (Math.max(back, front) + 0.05) / (Math.min(back, front) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (contrast < (large ? 3 : 4.5)) faults.push(`contrast ${contrast.toFixed(2)}: ${describe(element)}`);
  }

  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth > clientWidth) faults.push(`wider than the window: ${scrollWidth} > ${clientWidth}`);
  return faults;
};
