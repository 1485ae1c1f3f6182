"""Looks for links of the built site that lead nowhere: `python docs/site/dead_links.py build/site`.

Sphinx itself checks what it resolves; this also sees links between the languages, to files, and of a theme or an
extension. Prints each dead link, and ends with 1 if there is one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

SOURCES = "_modules"
"""The folder of the sources that viewcode shows. Properties and names from other modules have no place there."""


class Page(HTMLParser):
    """The links of a page, and the ids that links may name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.links.append(value)
            elif value and name == "id":
                self.ids.add(value)


def dead_links(site: Path) -> Iterator[str]:
    """One line for each link that leads to no file of the site, or to no place of its page."""
    site = site.resolve()
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    for path, page in pages.items():
        for link in page.links:
            if missing := what_is_missing(link, path, pages):
                yield f"{path.relative_to(site)}: {link}: no such {missing}"


def what_is_missing(link: str, path: Path, pages: dict[Path, Page]) -> str | None:
    """`file` or `place`, if the link of the page at `path` needs one that is not there."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.exists():
        return "file"
    place = unquote(parts.fragment)
    if not place or target not in pages or SOURCES in (*path.parts, *target.parts):
        return None
    return None if place in pages[target].ids else "place"


def main(site: str) -> int:
    found = list(dead_links(Path(site)))
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
