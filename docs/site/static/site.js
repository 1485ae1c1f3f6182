// What the theme leaves out, for screen readers and keyboards.
const chinese = document.documentElement.lang.startsWith("zh");

for (const caption of document.querySelectorAll(".caption[role=heading]")) caption.setAttribute("aria-level", "2");

const names = chinese ? ["所有页面", "本页内容"] : ["All pages", "On this page"];
for (const [place, drawer] of [".sidebar-drawer", ".toc-drawer"].entries()) {
  document.querySelector(drawer)?.setAttribute("aria-label", names[place]);
}

// The page with what was found has no heading of the first level.
const article = document.querySelector("article[role=main]");
if (article && !article.querySelector("h1")) {
  const heading = document.createElement("h1");
  heading.textContent = document.title.split(" - ")[0];
  article.prepend(heading);
}

// A table of Markdown has a row of headers in any case, if only of empty ones.
for (const header of document.querySelectorAll("th")) {
  if (header.textContent.trim()) continue;
  const cell = document.createElement("td");
  cell.className = header.className;
  header.replaceWith(cell);
}

// Code and tables that are wider than the window scroll. Then they are stops for Tab, so that arrow keys reach them.
function makeStops() {
  for (const box of document.querySelectorAll("pre, .table-wrapper, .toc-scroll, .sidebar-scroll")) {
    const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    if (scrolls) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
makeStops();
addEventListener("resize", makeStops);
