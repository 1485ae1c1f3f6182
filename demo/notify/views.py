"""The notifications page, what it does without a WebSocket, and an ordinary view that sends one."""

from __future__ import annotations

import json
from functools import lru_cache

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from chat.ratelimit import RateLimit
from notify.actions import perform, send_limit
from notify.models import MAX_TEXT_LENGTH, Notification
from notify.sending import send_notification
from people.identity import person_of_request


def inbox(request: HttpRequest) -> HttpResponse:
    config = {
        "me": request.person.pk,
        "strings": {
            "you": _("{name} (you)"),
            "away": _("{name} (offline)"),
            "connected": _("Connected."),
            "connecting": _("Connecting…"),
        },
        "ways": {
            "websocket": _("One connection, open both ways."),
            "sse": _("One response that stays open; what you send goes in requests. The browser resumes it by itself."),
            "poll": _("A request that waits for news, then the next one. Works behind every proxy."),
        },
    }
    return render(request, "notify/inbox.html", {"config": config, "max_length": MAX_TEXT_LENGTH})


@require_POST
def ring(request: HttpRequest) -> HttpResponse:
    """A plain Django view: it knows nothing about WebSockets, and still reaches every open tab of the visitor."""
    send_notification(Notification.Kind.BELL, recipient=person_of_request(request))
    return redirect("notify:inbox")


@require_POST
def act(request: HttpRequest) -> HttpResponse:
    """What a page does when its connection goes one way only: JSON in, and what the page is to be told out."""
    try:
        content = json.loads(request.body)
    except (ValueError, RecursionError):
        content = None
    person = person_of_request(request)
    return JsonResponse(perform(person, content, sends_of(person.pk)) or {"type": "done"})


@lru_cache(maxsize=1000)
def sends_of(person_id: int) -> RateLimit:
    """A request has no connection that could remember how much it has sent."""
    return send_limit()
