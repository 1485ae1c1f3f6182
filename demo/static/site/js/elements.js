// Making elements. Text always goes in as text, never as markup, so nothing that a person types can become part of the page.

export const find = (name) => document.querySelector(`[data-${name}]`);

// element("li", { class: "mine", hidden: true }, "text", childElement, …)
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "boolean") made.toggleAttribute(name, value);
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// Show a sentence in an element, or hide the element when there is none. A status stays where it is: screen readers read out what is
// put into one that they know already, not what comes together with it.
export function say(target, text) {
  target.textContent = text;
  if (!target.matches("[role='status']")) target.hidden = !text;
}

// A button that is of no use just now keeps the focus, which one that is disabled would lose.
export const enable = (button, isOfUse) => button.setAttribute("aria-disabled", String(!isOfUse));
export const isEnabled = (button) => button.getAttribute("aria-disabled") !== "true";
