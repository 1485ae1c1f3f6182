"""The documentation site: its pages in each language, where links lead, and that no page or module is left out.

`make docs` makes the site itself, and fails if a link leads nowhere.
"""

import fnmatch
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, SITE, languages

import channels

FRONTS = {"en": SITE / "index.md", "zh_CN": SITE / "index.zh-CN.md"}

dead_links = importlib.import_module("dead_links").dead_links

EVERY = frozenset({"README", "README.zh-CN", "docs/a.en", "docs/a.zh-CN", "docs/b", "docs/more/c", "docs/more/README"})
ENGLISH_ONLY = ("bench/results/", "docs/internals/", "docs/site/api/", "src/")
"""Folders of what is measured or generated, and of notes for developers."""

BOTH_IN_ONE = "docs/intro/README"
INTERNAL = {"apps", "checks", "management", "sharing", "utils"}


def rewritten(text: str, page: str, site: str) -> str:
    return languages.rewritten(text, page, site, EVERY, lambda path: path in {"docs/more", "docs/images"})


@pytest.mark.parametrize(
    ("page", "other"),
    [
        ("README", "README.zh-CN"),
        ("README.zh-CN", "README"),
        ("docs/a.en", "docs/a.zh-CN"),
        ("docs/a.zh-CN", "docs/a.en"),
        ("docs/b", None),
    ],
)
def test_a_page_knows_itself_in_the_other_language(page: str, other: str | None) -> None:
    assert languages.twin(page, EVERY) == other


def test_a_site_has_the_pages_of_its_language_and_the_chinese_one_those_that_are_english_only() -> None:
    assert {page for page in EVERY if languages.is_in("en", page, EVERY)} == EVERY - {"README.zh-CN", "docs/a.zh-CN"}
    assert {page for page in EVERY if languages.is_in("zh_CN", page, EVERY)} == EVERY - {"README", "docs/a.en"}


def test_what_visitors_read_is_there_in_chinese() -> None:
    every = languages.pages(ROOT)
    english = (page for page in every if languages.language_of(page) == "en" and not page.startswith(ENGLISH_ONLY))
    assert [page for page in english if languages.twin(page, every) is None] == [BOTH_IN_ONE]


@pytest.mark.parametrize(
    ("page", "site", "text", "expected"),
    [
        ("docs/a.en", "en", "[x](b.md#y) [z](https://x.org/b.md)", "[x](b.md#y) [z](https://x.org/b.md)"),
        ("docs/a.en", "en", "[中文](a.zh-CN.md)", "[中文](site:../../zh/docs/a.zh-CN.html)"),
        ("README", "en", "[中文](docs/a.zh-CN.md#y)", "[中文](site:../zh/docs/a.zh-CN.html#y)"),
        ("docs/more/c", "zh_CN", "[x](../a.en.md)", "[x](site:../../../en/docs/a.en.html)"),
        ("docs/b", "en", "[`more`](more/), [files](images/)", "[`more`](more/README.md), files"),
        ("docs/b", "en", "[x](gone.md) ![y](images/y.png)", "[x](gone.md) ![y](images/y.png)"),
    ],
)
def test_a_link_leads_to_the_site_that_has_the_page(page: str, site: str, text: str, expected: str) -> None:
    assert rewritten(text, page, site) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("一行，\n又一行\n再一行。\n[链接](a.md)", "一行，又一行再一行。[链接](a.md)"),
        ("* 项，\n  `代码`之后\n* 项", "* 项，`代码`之后\n* 项"),
        ("一行。\n\n又一段 Django\n的页面\nDjango", "一行。\n\n又一段 Django\n的页面\nDjango"),
        ("如下：\n```sh\n甲\n乙\n```\n甲\n乙", "如下：\n```sh\n甲\n乙\n```\n甲乙"),
        ("甲。\n1. 乙\n- 丙\n| 丁 |", "甲。\n1. 乙\n- 丙\n| 丁 |"),
    ],
)
def test_lines_of_chinese_are_joined_without_a_space(text: str, expected: str) -> None:
    assert languages.joined(text) == expected


@pytest.mark.parametrize("site", FRONTS)
def test_the_front_page_of_a_site_names_each_of_its_pages_and_no_other(site: str) -> None:
    every = languages.pages(ROOT)
    front = FRONTS[site].relative_to(ROOT).with_suffix("").as_posix()
    pages = {page for page in every if languages.is_in(site, page, every)} - {front}
    named = re.findall(r"^/(\S+)$", FRONTS[site].read_text(), re.M)
    assert {page for page in pages if not any(fnmatch.fnmatch(page, name) for name in named)} == set()
    assert {name for name in named if not any(fnmatch.fnmatch(page, name) for page in pages)} == set()


def test_the_reference_has_each_public_module_of_channels() -> None:
    reference = (SITE / "api" / "channels.md").read_text()
    modules = {
        module.name
        for module in pkgutil.walk_packages(channels.__path__, "channels.")
        if not module.ispkg and not set(module.name.split(".")) & INTERNAL
    }
    named = set(re.findall(r"automodule:: (\S+)", reference))
    missing = {name for name in modules - named if name.rpartition(".")[0] not in named}
    assert missing == set()


def test_a_link_of_the_built_site_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<p id="top"><a href="b.html#here">b</a> <a href="#top">a</a> <a href="c.html">c</a>'
    )
    (tmp_path / "b.html").write_text('<p id="there"><a href="https://example.com/x">x</a> <img src="a.html">')
    assert sorted(dead_links(tmp_path)) == ["a.html: b.html#here: no such place", "a.html: c.html: no such file"]


def test_sphinx_indexes_chinese_by_pairs_and_latin_words_as_they_are() -> None:
    pytest.importorskip("sphinx", reason="needs `make docs`' packages")
    words = importlib.import_module("chinese_search").words
    assert words("通道层（channel layer）在 HTTP/2 上") == ["通道", "道层", "channel", "layer", "在", "HTTP", "2", "上"]
