"""The Markdown of the documentation, as far as its tests need it: code blocks with their markers, links, headings.

A comment before a block says where it comes from: `<!-- from: path -->` is a whole file of the repository,
`<!-- part of: path -->` some lines of one, in a row, and `<!-- run -->` commands, one per line. Paths count from
the root of the repository.
"""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INTRO = ROOT / "docs" / "intro"
SITE = ROOT / "docs" / "site"

sys.path.insert(0, str(SITE))  # which is no package
languages = importlib.import_module("languages")

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,}|~{3,})(?P<language>[^`]*)$")
_MARKER = re.compile(r"^<!-- (?P<kind>from|part of|run)(?:: (?P<path>\S+))? -->$")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_CODE = re.compile(r"(?P<ticks>`+).+?(?P=ticks)")
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(\s*<?(?P<target>[^\s)>]+)>?(?:\s+[\"'][^)]*[\"'])?\s*\)")
_REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s+<?(?P<target>[^\s>]+)", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}\s+(?P<text>.+?)\s*#*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; `kind` is empty if no marker stands before it."""

    page: str
    line: int
    language: str
    text: str
    kind: str
    path: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def _marker(before: str) -> tuple[str, str]:
    found = _MARKER.match(before.strip())
    return (found["kind"], found["path"] or "") if found else ("", "")


def split(page: Path) -> tuple[list[Block], str]:
    """The code blocks of a page, in order, and its text without them."""
    name = page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name
    blocks: list[Block] = []
    prose: list[str] = []
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        opening = _FENCE.match(line)
        if not opening:
            prose.append(line)
            continue
        body: list[str] = []
        for _, inner in lines:
            if inner.strip() == opening["ticks"]:
                break
            body.append(inner.removeprefix(opening["indent"]))
        else:
            raise ValueError(f"{name}:{number}: this block is never closed")
        before = next((text for text in reversed(prose) if text.strip()), "")
        text = "".join(f"{inner}\n" for inner in body)
        blocks.append(Block(name, number, opening["language"].strip(), text, *_marker(before)))
        prose.append("")
        # A marker belongs to the block right after it, not to a second one.
        prose.append("```")
    return blocks, "\n".join(line for line in prose if line != "```")


def links(page: Path) -> list[str]:
    """The targets of a page's links, as written."""
    text = _CODE.sub("", _COMMENT.sub("", split(page)[1]))
    return [found["target"] for pattern in (_LINK, _REFERENCE) for found in pattern.finditer(text)]


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives a page's headings."""
    found: set[str] = set()
    for heading in _HEADING.finditer(split(page)[1]):
        text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading["text"])
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        again = sum(1 for known in found if re.fullmatch(rf"{re.escape(slug)}(-\d+)?", known))
        found.add(f"{slug}-{again}" if again else slug)
    return found
