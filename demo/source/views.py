"""Pages that show how the demo is made: its own files, read-only; and the documentation, to read."""

from __future__ import annotations

from functools import partial

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from source import markdown
from source.files import PAGES, Source, find, in_language
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
    pages = [(name, title, len(listed(name))) for name, title in titles().items() if PAGES[name]]
    return render(request, "source/index.html", {"pages": pages})


def page(request: HttpRequest, name: str, slug: str = "") -> HttpResponse:
    """One file of a page of the demo; without a `slug` the first one."""
    files = PAGES.get(name)
    if not files:
        raise Http404
    source = files.get(slug) if slug else listed(name)[0]
    if source is None:
        raise Http404
    context = {"name": name, "title": titles()[name], "files": listed(name), "current": source}
    if source.language == "markdown":
        document = markdown.render(source.read(), partial(address, source))
        return render(request, "source/document.html", {**context, "document": document})
    text = source.read()
    numbers = "\n".join(str(number) for number in range(1, text.count("\n") + 1))
    return render(
        request, "source/page.html", {**context, "code": highlight(text, source.language), "numbers": numbers}
    )


def listed(name: str) -> list[Source]:
    """The files of a page, its texts in the visitor's language."""
    return in_language(PAGES[name], chinese=get_language() == "zh-hans")


def address(base: Source, target: str) -> str | None:
    """Where a link in a text leads to; None if it means a file that no page shows."""
    if target.startswith(("https://", "http://", "#")):
        return target
    path, hash_sign, fragment = target.partition("#")
    found = find(base, path)
    if found is None:
        return None
    name, source = found
    return reverse("source:file", args=[name, source.slug]) + hash_sign + fragment
