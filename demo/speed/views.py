"""The page with live figures. All of them come over its WebSocket."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from speed.crowd import SECONDS


def panel(request: HttpRequest) -> HttpResponse:
    config = {
        "visitors": settings.SPEED_VISITORS,
        "strings": {
            "bring": _("Bring in {count} visitors"),
            "here": _("{count} visitors connected"),
            "left": _(", {seconds} s left"),
            "coming": _("Visitors are connecting…"),
            "over": _("The visitors have left. 99 percent of deliveries took at most {p99} ms."),
            "noCrowd": _("Simulated visitors are switched off on this server."),
            "crowdIsHere": _("Visitors are already here. Wait until they have left."),
            "crowdTooSoon": _("You can bring in visitors every 30 seconds. Please wait a little."),
            "milliseconds": _("{count} ms"),
            "transport": _("WebSocket over HTTP/{version}"),
            "transportTls": _("WebSocket over HTTP/{version}, TLS"),
        },
    }
    context = {"config": config, "visitors": settings.SPEED_VISITORS, "seconds": SECONDS}
    return render(request, "speed/panel.html", context)
