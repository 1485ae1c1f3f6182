"""Pages that show how the demo is made: its own files, read-only."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from source.files import PAGES
from source.highlight import highlight


def titles() -> dict[str, str]:
    return {
        "home": _("Start page"),
        "chat": _("Chat"),
        "notify": _("Notifications"),
        "game": _("Game"),
        "people": _("Profile"),
        "speed": _("Speed"),
        "source": _("Source code"),
        "docs": _("Documentation"),
    }


def index(request: HttpRequest) -> HttpResponse:
    pages = [(name, title, len(PAGES[name])) for name, title in titles().items() if PAGES[name]]
    return render(request, "source/index.html", {"pages": pages})


def page(request: HttpRequest, name: str, slug: str = "") -> HttpResponse:
    """One file of a page of the demo; without a `slug` the first one."""
    files = PAGES.get("docs-zh" if name == "docs" and get_language() == "zh-hans" else name)
    if not files:
        raise Http404
    source = files.get(slug) if slug else next(iter(files.values()))
    if source is None:
        raise Http404
    text = source.read()
    context = {
        "name": name,
        "title": titles().get(name, ""),
        "files": files.values(),
        "current": source,
        "code": highlight(text, source.language),
        "numbers": "\n".join(str(number) for number in range(1, text.count("\n") + 1)),
    }
    return render(request, "source/page.html", context)
