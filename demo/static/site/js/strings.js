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
const rules = new Intl.PluralRules(language);

// { one: "{count} new message", other: "{count} new messages" } and a number, as the language says it.
export const counted = (forms, count, shown = count) => format(forms[rules.select(count)] ?? forms.other, { count: shown });

// For a badge, a button or a title: from a hundred on nobody counts.
export const short = (count) => (count > 99 ? "99+" : String(count));

// The order of two names, for sorting.
export const byName = new Intl.Collator(language).compare;

const hour = new Intl.DateTimeFormat(language, { hour: "numeric", minute: "2-digit" });
const full = new Intl.DateTimeFormat(language, { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(language, { weekday: "long", month: "long", day: "numeric" });
const date = new Intl.DateTimeFormat(language, { year: "numeric", month: "long", day: "numeric" });
const DAY = 24 * 60 * 60 * 1000;

function time(iso, text) {
  const element = document.createElement("time");
  element.dateTime = iso;
  element.textContent = text;
  return element;
}

// A <time> element: the hour, with the day if that is not today.
export function timeElement(iso) {
  const when = new Date(iso);
  return time(iso, (when.toDateString() === new Date().toDateString() ? hour : full).format(when));
}

// A <time> element with the hour alone, below a line that says the day.
export const hourElement = (iso) => time(iso, hour.format(new Date(iso)));

// "Today", "Yesterday", "Monday, 3 March", or with its year.
export function dayName(iso) {
  const when = new Date(iso);
  const now = new Date();
  if (when.toDateString() === now.toDateString()) return strings.today;
  if (when.toDateString() === new Date(now - DAY).toDateString()) return strings.yesterday;
  return (when.getFullYear() === now.getFullYear() ? weekday : date).format(when);
}
