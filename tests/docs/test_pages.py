"""The reader of Markdown that the other tests of the documentation stand on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.pages import anchors, links, split


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "page.md"


def test_a_block_knows_its_marker_its_language_and_its_line(page: Path) -> None:
    page.write_text("# A\n\n<!-- from: a/b.py -->\n\n```python\nx = 1\n\ny = 2\n```\n")
    (block,) = split(page)[0]
    assert (block.kind, block.path, block.language, block.line) == ("from", "a/b.py", "python", 5)
    assert block.text == "x = 1\n\ny = 2\n"


def test_a_marker_counts_for_one_block_only(page: Path) -> None:
    page.write_text("<!-- run -->\n```sh\nls\n```\n\n```sh\nrm\n```\n")
    assert [block.kind for block in split(page)[0]] == ["run", ""]


def test_words_between_the_marker_and_the_block_part_them(page: Path) -> None:
    page.write_text("<!-- run -->\nwords\n```sh\nls\n```\n")
    assert split(page)[0][0].kind == ""


def test_a_block_that_is_never_closed_is_an_error(page: Path) -> None:
    page.write_text("words\n```sh\nls\n")
    with pytest.raises(ValueError, match=r"page\.md:2: this block is never closed"):
        split(page)


def test_links_are_found_in_prose_and_not_in_code_or_comments(page: Path) -> None:
    page.write_text(
        "[a](b.md) ![i](c.png 'title') `[x](no.md)` <!-- [y](no.md) -->\n```\n[z](no.md)\n```\n[ref]: d.md\n"
    )
    assert links(page) == ["b.md", "c.png", "d.md"]


def test_anchors_are_those_of_github(page: Path) -> None:
    page.write_text("# One, two: `three`\n## 安装 (Channels)\n## Same\n## Same\n```\n# code\n```\n")
    assert anchors(page) == {"one-two-three", "安装-channels", "same", "same-1"}
