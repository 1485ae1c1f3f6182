"""The notifications page, and an ordinary view that sends one."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from notify.models import MAX_TEXT_LENGTH, Notification
from notify.sending import send_notification
from people.identity import person_of_request


def inbox(request: HttpRequest) -> HttpResponse:
    config = {
        "me": request.person.pk,
        "strings": {"you": _("{name} (you)"), "away": _("{name} (away)")},
    }
    return render(request, "notify/inbox.html", {"config": config, "max_length": MAX_TEXT_LENGTH})


@require_POST
def ring(request: HttpRequest) -> HttpResponse:
    """A plain Django view: it knows nothing about WebSockets, and still reaches every open tab of the visitor."""
    send_notification(Notification.Kind.BELL, recipient=person_of_request(request))
    return redirect("notify:inbox")
