"""Every relative link of a page leads to a file, and to a heading where it names one."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest
from tests.docs.pages import ROOT, anchors, languages, links

PAGES = [ROOT / f"{page}.md" for page in sorted(languages.pages(ROOT))]


def broken(page: Path) -> list[str]:
    wrong: list[str] = []
    for link in links(page):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, fragment = link.partition("#")
        target = (page.parent / unquote(name)).resolve() if name else page
        if not target.is_relative_to(ROOT) or not target.exists():
            wrong.append(f"{link}: no such file")
        elif fragment and unquote(fragment) not in anchors(target):
            wrong.append(f"{link}: no such heading")
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_relative_links_of_a_page_lead_somewhere(page: Path) -> None:
    assert broken(page) == []
