// What the server wrote into the page for its scripts: translated texts, and a page's own settings.

function embedded(id) {
  const element = document.getElementById(id);
  return element ? JSON.parse(element.textContent) : {};
}

export const config = embedded("config");
export const strings = { ...embedded("page-strings"), ...config.strings };

// "{name} says:" with { name: "Ada" } becomes "Ada says:".
export function format(text, values) {
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

const language = document.documentElement.lang;
// The order of two names, for sorting.
export const byName = new Intl.Collator(language).compare;

const hour = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(language, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });

// A <time> element: the hour for today, the day as well for earlier ones.
export function timeElement(iso) {
  const when = new Date(iso);
  const isToday = when.toDateString() === new Date().toDateString();
  const element = document.createElement("time");
  element.dateTime = iso;
  element.textContent = (isToday ? hour : day).format(when);
  return element;
}
