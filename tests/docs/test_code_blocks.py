"""The code on the pages of docs/intro/ is the code that the tests run: every block says where it is from, and it is.

The commands are run for real, from the first to the last and in an empty folder, by `test_walkthrough.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.pages import INTRO, ROOT, Block, split

MARKED = [block for page in sorted(ROOT.glob("docs/**/*.md")) for block in split(page)[0] if block.path]
TUTORIAL = [INTRO / "tutorial.en.md", INTRO / "tutorial.zh-CN.md"]
CHANGED = (
    "your_project_name/settings.py",
    "your_app/consumers.py",
    "your_app/routing.py",
    "your_app/templates/chat.html",
)
"""The files that the exercises change; the second leaves the settings of the first."""
FOUR_PARTS = [INTRO / "four-parts.en.md", INTRO / "four-parts.zh-CN.md"]
WALKED = [*TUTORIAL, *FOUR_PARTS]


@pytest.mark.parametrize("page", sorted(INTRO.glob("**/*.md")), ids=lambda page: page.name)
def test_every_block_says_where_it_is_from(page: Path) -> None:
    assert [str(block) for block in split(page)[0] if not block.kind] == []


@pytest.mark.parametrize("block", MARKED, ids=str)
def test_a_block_is_the_file_it_names_or_some_lines_of_it(block: Block) -> None:
    text = (ROOT / block.path).read_text(encoding="utf-8")
    if block.kind == "from":
        assert block.text == text
    else:
        assert f"\n{block.text}" in f"\n{text}"


def test_commands_stand_only_on_the_pages_that_are_walked_through() -> None:
    others = [page for page in INTRO.glob("**/*.md") if page not in WALKED]
    assert [str(block) for page in others for block in split(page)[0] if block.kind == "run"] == []


@pytest.mark.parametrize("pages", [TUTORIAL, FOUR_PARTS], ids=["tutorial", "four-parts"])
def test_both_languages_show_the_same_blocks_in_the_same_order(pages: list[Path]) -> None:
    english, chinese = ([(block.kind, block.path, block.text) for block in split(page)[0]] for page in pages)
    assert english == chinese


def test_the_pages_show_every_file_of_the_example_that_its_author_writes() -> None:
    shown = {block.path for block in split(TUTORIAL[0])[0] if block.path}
    assert shown == {
        f"examples/tutorial/{name}"
        for name in (
            "your_project_name/settings.py",
            "your_project_name/asgi.py",
            "your_project_name/urls.py",
            "your_app/routing.py",
            "your_app/consumers.py",
            "your_app/templates/chat.html",
            "your_app/views.py",
            "your_app/tests.py",
            *(f"exercises/1-rooms/{name}" for name in CHANGED),
            *(f"exercises/2-notifications/{name}" for name in CHANGED[1:]),
        )
    }


def test_the_pages_in_four_parts_show_every_file_of_theirs() -> None:
    shown = {block.path for block in split(FOUR_PARTS[0])[0] if block.path}
    files = (path for path in (ROOT / "examples" / "four_parts").glob("*-*/**/*") if path.is_file())
    written = {path.relative_to(ROOT).as_posix() for path in files if path.suffix in {".py", ".html", ".diff"}}
    # What `startproject` and `startapp` make is not shown.
    made = {"manage.py", "mysite/__init__.py", "chat/__init__.py"}
    assert shown == written - {f"examples/four_parts/1-page/{name}" for name in made}
