"""The game's page."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _


def play(request: HttpRequest) -> HttpResponse:
    strings = {
        "caught": _("You have a buoy. Your score is {score}."),
        "overtaken": _("{name} leads with {score}."),
        "markYou": _(" (you)"),
        "full": _("The water is full. You are watching; reload the page to try again."),
        "nearest": _("Nearest buoy: {distance} metres, {direction}. {water}"),
        "ahead": _("straight ahead"),
        "right": _("to the right"),
        "left": _("to the left"),
        "behind": _("behind you"),
        "deep": _("You are in the fairway."),
        "shallow": _("You are in shallow water."),
        "entered": _("{name} sails in."),
        "leftGame": _("{name} sails away."),
    }
    return render(request, "game/play.html", {"config": {"strings": strings}})
