"""The Chinese pages use one vocabulary, that of docs/internals/vocabulary.zh-CN.md, and Chinese punctuation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, links, split

VOCABULARY = ROOT / "docs" / "internals" / "vocabulary.zh-CN.md"
FOLDERS = ("docs", "demo", "examples", "compat", "bench", "src")
CHINESE = sorted(
    [*ROOT.glob("*.zh-CN.md"), *(page for folder in FOLDERS for page in ROOT.glob(f"{folder}/**/*.zh-CN.md"))]
)
PAGES = [page for page in CHINESE if page != VOCABULARY]

CODE = re.compile(r"(?P<ticks>`+).+?(?P=ticks)|<!--.*?-->|\]\([^)]*\)", re.DOTALL)
HAN = "\u4e00-\u9fff"
ENDS = "。？！，、：；）”"
HALF_WIDTH = re.compile(rf"[{HAN}][,;:!?]|[,;!?](?=[{HAN}])|[{HAN}]\((?=[{HAN}])|(?<=[{HAN}])\)")


def prose(page: Path) -> str:
    """The text of a page without its code and the targets of its links."""
    return CODE.sub(" ", split(page)[1])


def rejected() -> list[str]:
    """What the vocabulary says is not written: the third column of its table, and the sentences at its end."""
    text = VOCABULARY.read_text(encoding="utf-8")
    rows = re.findall(r"^\|[^|]+\|[^|]+\|(?P<words>[^|]+)\|$", text, re.MULTILINE)
    return [word for part in (*rows, text.rsplit("\n\n", 1)[1]) for word in re.findall(r"`([^`]+)`", part)]


REJECTED = rejected()
TERMS = re.findall(r"每页第一次出现写“(.+?)（(.+?)）”", VOCABULARY.read_text(encoding="utf-8"))
NO_SENTENCE = re.compile(r"^#.*|!?\[[^\]]*\]\([^)]*\)|`[^`]*`|<!--.*?-->", re.MULTILINE)


def wrong_words(text: str) -> list[str]:
    return [word for word in REJECTED if word in text]


def half_width(text: str) -> list[str]:
    return [text[max(0, found.start() - 10) : found.end() + 10] for found in HALF_WIDTH.finditer(text)]


def unended(text: str) -> list[str]:
    """Bold text that ends in punctuation, with a letter right behind its asterisks."""
    parts = [line.split("**") for line in text.splitlines()]
    pairs = [pair for each in parts for pair in zip(each[1::2], each[2::2], strict=False)]
    return [bold for bold, after in pairs if bold[-1:] in ENDS and not after[:1].isspace() and after[:1] not in ENDS]


def unexplained(text: str) -> list[str]:
    """Terms that the first sentence with them uses without their English name, here or before."""
    text = text.replace("*", "")
    sentences = NO_SENTENCE.sub(lambda found: "`" * len(found[0]), text)
    first = {term: sentences.find(term) for term, _ in TERMS}
    return [
        term
        for term, english in TERMS
        if first[term] >= 0 and not 0 <= text.find(f"{term}（{english}）") <= first[term]
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_chinese_page_gives_the_english_name_of_a_term(page: Path) -> None:
    assert unexplained(split(page)[1]) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_chinese_page_uses_the_words_of_the_vocabulary(page: Path) -> None:
    assert wrong_words(prose(page)) == []


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_chinese_page_has_chinese_punctuation(page: Path) -> None:
    assert half_width(prose(page)) == []


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_is_bold_ends_where_markdown_sees_it(page: Path) -> None:
    """Two asterisks end nothing between punctuation and a letter: a space has to follow."""
    assert unended(CODE.sub("`", split(page)[1])) == []


def test_the_texts_of_the_demo_address_people_as_the_pages_do() -> None:
    catalogue = (ROOT / "demo/locale/zh_Hans/LC_MESSAGES/django.po").read_text(encoding="utf-8")
    assert "您" not in catalogue


def test_bold_text_that_does_not_end_is_found() -> None:
    assert unended("**为什么？**因为")
    assert unended("**为什么？** 因为，**Redis**，") == []


@pytest.mark.parametrize("text", ["您可以", "发给本地通道层", "抛出或引发", "相会的"])
def test_a_rejected_word_is_found(text: str) -> None:
    assert wrong_words(text)


def test_a_term_without_its_english_name_is_found() -> None:
    assert len(TERMS) == 2
    assert unexplained("# 消费者\n[通道层](a.md)连接消费者。消费者（consumer）") == ["消费者"]
    assert unexplained("# 消费者\n**消费者**（consumer）和[通道层（channel layer）](a.md)，通道层") == []


@pytest.mark.parametrize("text", ["日志,并把它", "进程;别的", "注意:这里", "函数)和"])
def test_half_width_punctuation_is_found(text: str) -> None:
    assert half_width(text)


def test_a_colon_of_code_and_an_address_is_left_alone() -> None:
    assert half_width("见 http://127.0.0.1:8000/ 和 a, b；Python 3.11 (CPython)") == []


def twin(page: Path) -> Path | None:
    """The same page in English."""
    plain = page.name.removesuffix(".zh-CN.md")
    return next(
        (path for path in (page.with_name(f"{plain}{end}") for end in (".md", ".en.md")) if path.exists()), None
    )


DESCRIPTIONS = set(ROOT.glob("compat/*/README.md"))
"""In the metadata of wheels, from where no link leads into the repository (`test_messages.py`)."""

TWINS = [(page, english) for page in CHINESE if (english := twin(page))]


def test_all_but_the_vocabulary_have_an_english_twin() -> None:
    assert [page for page in CHINESE if page not in {chinese for chinese, _ in TWINS}] == [VOCABULARY]


@pytest.mark.parametrize(("chinese", "english"), TWINS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_twins_lead_to_each_other_and_show_the_same_code(chinese: Path, english: Path) -> None:
    assert english.name in links(chinese)
    assert english in DESCRIPTIONS or chinese.name in links(english)
    code = [
        [(block.kind, block.path, block.text) for block in split(page)[0] if block.kind] for page in (chinese, english)
    ]
    assert code[0] == code[1]


def shape(page: Path) -> tuple[list[str], int, int]:
    """The levels of a page's headings, and how many items of lists and rows of tables it has."""
    text = split(page)[1]
    headings, items, rows = (re.findall(mark, text, re.MULTILINE) for mark in (r"^#+ ", r"^ *(?:[-*]|\d\.) ", r"^\|"))
    return headings, len(items), len(rows)


@pytest.mark.parametrize(("chinese", "english"), TWINS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_twins_have_the_same_headings_lists_and_tables(chinese: Path, english: Path) -> None:
    assert shape(chinese) == shape(english)


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_chinese_page_leads_to_chinese_pages_where_there_are(page: Path) -> None:
    known = {english.resolve(): chinese for chinese, english in TWINS}
    own = twin(page)
    targets = {target for link in links(page) if (target := (page.parent / link.partition("#")[0]).resolve()) in known}
    assert targets <= ({own.resolve()} if own else set())
