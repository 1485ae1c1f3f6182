"""Texts that the browser's modules show on every page, in the language of the request.

They travel inside the page (``json_script``), so a script never holds a sentence that a translator cannot reach.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _


def page_strings(request: HttpRequest) -> dict[str, Any]:
    return {
        "page_strings": {
            "lost": _("Connection lost. Trying again…"),
            "restored": _("Connected again."),
            "someone": _("Someone"),
            "noteFrom": _("{name} says:"),
            "roomOpened": _("{name} opened a room:"),
            "bell": _("A Django view rings the bell for you."),
            "everyone": _("to everyone"),
            "toYou": _("to you"),
            "unread": _("{count} unread"),
            "dismiss": _("Dismiss"),
            "markRead": _("Mark as read"),
            "goThere": _("Go there"),
            "sent": _("Sent."),
            "notSent": _("Not sent: there is no connection. Your text is still here."),
            "too_fast": _("That was a little fast. Wait a moment, then send it again."),
            "too_long": _("That is too long. Shorten it and send it again."),
            "empty": _("Write something first."),
            "gone": _("This person is not here any more."),
            "unknown": _("The server did not understand this page. Reload it."),
        },
    }
