"""What every page needs: texts for the browser's modules, in the language of the request, and where its source is.

The texts travel inside the page (``json_script``), so a script never holds a sentence that a translator cannot reach.
"""

from __future__ import annotations

from typing import Any

import fairway
from django.http import HttpRequest
from django.utils.translation import gettext as _

from source.files import PAGES


def page_strings(request: HttpRequest) -> dict[str, Any]:
    match = request.resolver_match  # None on a page that does not exist
    part = match.namespace if match else ""
    return {
        "fairway_version": fairway.__version__,
        "source_page": part if part in PAGES else "home",
        "page_strings": {
            "lost": _("Connection lost."),
            "nextTry": _("Retrying in {seconds} s"),
            "trying": _("Retrying…"),
            "restored": _("Back online."),
            "today": _("Today"),
            "yesterday": _("Yesterday"),
            "someone": _("Someone"),
            "noteFrom": _("{name} wrote:"),
            "roomOpened": _("{name} created a room:"),
            "bell": _("This one was sent by a Django view."),
            "everyone": _("To everyone"),
            "toYou": _("To you"),
            "unread": _("{count} unread"),
            "dismiss": _("Dismiss"),
            "markRead": _("Mark as read"),
            "goThere": _("Go to room"),
            "sent": _("Sent."),
            "notSent": _("You are offline. Your message has not been sent."),
            "too_fast": _("You are sending too fast. Wait a moment and try again."),
            "too_long": _("That is too long. Please shorten it."),
            "empty": _("Write something first."),
            "gone": _("This person has left."),
            "unknown": _("Something went wrong. Reload the page."),
        },
    }
