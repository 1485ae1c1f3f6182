"""Which files each page of the demo is made of. The list is made when the server starts, from the patterns below.

What a visitor sends is only ever looked up in it, and never becomes a path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
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
    "docs": ["README*.md", "docs/*.md", "docs/intro/*.md", "docs/howto/*.md", "docs/ref/*.md"],
}

LANGUAGES = {".py": "python", ".js": "javascript", ".css": "css", ".html": "template", ".md": "markdown"}


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

    def read(self) -> str:
        return self.path.read_text(encoding="utf-8")


def _files(patterns: list[str]) -> dict[str, Source]:
    """In the order of the patterns; files without a line in them are left out."""
    found = [Source(path) for pattern in patterns for path in sorted(REPOSITORY.glob(pattern)) if path.stat().st_size]
    return {source.slug: source for source in found}


PAGES = {page: _files(patterns) for page, patterns in PATTERNS.items()}
# A page of the documentation has its Chinese twin beside it.
CHINESE = ".zh-CN.md"
PAGES["docs-zh"] = {slug: source for slug, source in PAGES["docs"].items() if source.name.endswith(CHINESE)}
PAGES["docs"] = {slug: source for slug, source in PAGES["docs"].items() if not source.name.endswith(CHINESE)}
