"""Which files each page of the demo is made of. The list is made when the server starts, from the patterns below.

What a visitor sends is only ever looked up in it, and never becomes a path.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from django.conf import settings
from django.utils.text import slugify

DEMO: Path = settings.BASE_DIR
REPOSITORY = DEMO.parent

PATTERNS = {
    "home": ["demo/demo/asgi.py", "demo/demo/*.py", "demo/templates/*.html", "demo/static/site/site.css"],
    "chat": ["demo/chat/consumers.py", "demo/chat/*.py", "demo/templates/chat/*.html", "demo/static/site/js/chat*.js"],
    "notify": [
        "demo/notify/consumers.py",
        "demo/notify/*.py",
        "demo/templates/notify/*.html",
        "demo/static/site/js/*.js",
    ],
    "game": [
        "demo/game/consumers.py",
        "demo/game/*.py",
        "demo/templates/game/*.html",
        *(f"demo/static/site/js/{name}.js" for name in ("game", "snapshots", "helm", "water")),
    ],
    "people": ["demo/people/models.py", "demo/people/*.py", "demo/templates/people/*.html"],
    "speed": [
        "demo/speed/consumers.py",
        "demo/speed/*.py",
        "demo/templates/speed/*.html",
        "demo/static/site/js/speed.js",
    ],
    "source": ["demo/source/views.py", "demo/source/*.py", "demo/templates/source/*.html"],
    "docs": [
        "docs/README*.md",
        *("README*.md", "docs/intro/*.md", "docs/*.md", "docs/howto/*.md", "docs/ref/*.md"),
        *(f"{name}*.md" for name in ("demo/README", "bench/README", "CHANGELOG", "CONTRIBUTING", "SECURITY")),
    ],
}

LANGUAGES = {".py": "python", ".js": "javascript", ".css": "css", ".html": "template", ".md": "markdown"}
# A page of the documentation and its Chinese twin differ in this.
IN_CHINESE, IN_ENGLISH = ".zh-CN.md", (".en.md", ".md")


@dataclass(frozen=True)
class Source:
    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(REPOSITORY).as_posix()

    @property
    def slug(self) -> str:
        return slugify(re.sub(r"[/._]", "-", self.name))

    @property
    def language(self) -> str:
        return LANGUAGES[self.path.suffix]

    @cached_property
    def title(self) -> str:
        """What the list of files says: the first heading of a text, and the name of everything else."""
        heading = re.search(r"^# (.+)", self.read(), re.MULTILINE) if self.language == "markdown" else None
        return heading[1].replace("`", "") if heading else self.name

    @property
    def is_chinese(self) -> bool:
        return self.name.endswith(IN_CHINESE)

    @property
    def twin(self) -> Path | None:
        """The same page of the documentation in the other language."""
        stem = self.name.removesuffix(IN_CHINESE) if self.is_chinese else re.sub(r"(\.en)?\.md$", "", self.name)
        others = IN_ENGLISH if self.is_chinese else (IN_CHINESE,)
        return next((path for end in others if (path := REPOSITORY / f"{stem}{end}").exists()), None)

    def read(self) -> str:
        return self.path.read_text(encoding="utf-8")


def _files(patterns: list[str]) -> dict[str, Source]:
    """In the order of the patterns; files without a line in them are left out."""
    found = [Source(path) for pattern in patterns for path in sorted(REPOSITORY.glob(pattern)) if path.stat().st_size]
    return {source.slug: source for source in found}


PAGES = {page: _files(patterns) for page, patterns in PATTERNS.items()}
_BY_PATH = {source.path: (page, source) for page, files in reversed(PAGES.items()) for source in files.values()}


def in_language(files: dict[str, Source], chinese: bool) -> list[Source]:
    """Of each text that there is in two languages, only the one; and all others."""
    return [source for source in files.values() if source.is_chinese == chinese or not source.twin]


def find(base: Source, link: str) -> tuple[str, Source] | None:
    """The page and the file that a relative link in `base` means, if it is one of those that are shown."""
    return _BY_PATH.get(Path(os.path.normpath(base.path.parent / link)))
