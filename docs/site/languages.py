"""Which pages the site of a language has, and where a link from one of them leads. Pure.

A page in two languages is two files: `name.md` or `name.en.md`, and `name.zh-CN.md`. A page in one language is in both
sites, since its reader wants to find it. Names of pages are paths from the repository, as Sphinx writes them: without
`.md`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

SITES: Mapping[str, str] = {"en": "en", "zh_CN": "zh"}
"""For each language of Sphinx, the folder of its site."""

PAGES = (
    "README*.md",
    "CHANGELOG*.md",
    "CONTRIBUTING*.md",
    "SECURITY*.md",
    "bench/README*.md",
    "bench/results/*.md",
    "compat/**/README*.md",
    "demo/README*.md",
    "docs/**/*.md",
    "examples/**/README*.md",
    "src/**/README.md",
)
"""The files of the repository that are pages."""

SCHEME = "site"
"""Of links from one site to the other."""

HAN, ENDS, BEGINS = "\u4e00-\u9fff", "。？！，、：；）”》", "“（《"
BREAK = re.compile(
    rf"""(?P<fence>^\ *(?P<ticks>`{{3,}}|~{{3,}}).*?^\ *(?P=ticks)\ *$)
    |(?<=[{ENDS}])\n\ *(?=[{HAN}{BEGINS}A-Za-z\[`])(?!`{{3}})
    |(?<=[{HAN}])\n\ *(?=[{HAN}{BEGINS}])""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
"""A break of a line of Chinese, where no space belongs; or a block of code, whose breaks stay."""

LINK = re.compile(r"\[(?P<words>[^\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def pages(repository: Path) -> frozenset[str]:
    """All pages, in all languages."""
    found = {path for pattern in PAGES for path in repository.glob(pattern)}
    names = (path.relative_to(repository).with_suffix("").as_posix() for path in found)
    return frozenset(name for name in names if not name.startswith("docs/_build/"))


def language_of(page: str) -> str:
    """The language that a page is written in."""
    return "zh_CN" if page.endswith(".zh-CN") else "en"


def twin(page: str, every: Collection[str]) -> str | None:
    """The same page in the other language."""
    plain = page.removesuffix(".zh-CN").removesuffix(".en")
    candidates = (f"{plain}.en", plain) if language_of(page) == "zh_CN" else (f"{plain}.zh-CN",)
    return next((each for each in candidates if each in every), None)


def is_in(site: str, page: str, every: Collection[str]) -> bool:
    """Whether the site of a language has this page."""
    return language_of(page) == site or (site == "zh_CN" and twin(page, every) is None)


def joined(text: str) -> str:
    """The text of a Chinese page, its lines joined where HTML would show a space that Chinese does not have."""
    return BREAK.sub(lambda match: match["fence"] or "", text)


def rewritten(text: str, page: str, site: str, every: Collection[str], is_folder: Callable[[str], bool]) -> str:
    """The text of a page, its links made fit for the site of a language.

    A link to a page that only the other site has leads there. A link to a folder leads to its README; if it has none,
    its words remain. All other links stay.
    """

    def fit(match: re.Match[str]) -> str:
        words, target, anchor = match["words"], match["target"], match["anchor"] or ""
        if re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
        name = path.removesuffix(".md")
        if is_folder(path):
            name, target = f"{path}/README", f"{target.rstrip('/')}/README.md"
            if name not in every:
                return words
        if name in every and not is_in(site, name, every):
            away = "../" * (page.count("/") + 1)
            target = f"{SCHEME}:{away}{SITES[language_of(name)]}/{name}.html"
        return f"[{words}]({target}{anchor})"

    return LINK.sub(fit, text)
