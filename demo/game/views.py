"""The game's pages. A room is made by going there: its link is all that others need."""

from __future__ import annotations

import secrets
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _

from game.race import MAX_BOATS
from game.water import MAX_NAME

FIRST_ROOM = "harbour"
COLOURS = ("amber", "blue", "coral", "green", "grey", "ivory", "red", "silver", "violet", "white")
BIRDS = ("egret", "gannet", "gull", "heron", "kittiwake", "osprey", "petrel", "plover", "puffin", "tern")


def play(request: HttpRequest, room: str = FIRST_ROOM) -> HttpResponse:
    return page(request, room, reverse("game:watch", args=[room]), watches=False)


def watch(request: HttpRequest, room: str) -> HttpResponse:
    return page(request, room, reverse("game:room", args=[room]), watches=True)


def new_room(request: HttpRequest) -> HttpResponse:
    """A room that nobody else is in: its name cannot be guessed, in practice."""
    return redirect("game:room", f"{secrets.choice(COLOURS)}-{secrets.choice(BIRDS)}-{secrets.token_hex(3)}")


def page(request: HttpRequest, room: str, other: str, watches: bool) -> HttpResponse:
    if len(room) > MAX_NAME:
        raise Http404
    config: dict[str, Any] = {
        "socket": f"/ws/game/{room}/watch/" if watches else f"/ws/game/{room}/",
        "seats": MAX_BOATS,
        "links": {
            "play": reverse("game:room", args=[room]),
            "watch": reverse("game:watch", args=[room]),
        },
        "strings": strings(),
    }
    name = _("Harbour") if room == FIRST_ROOM else room
    return render(request, "game/play.html", {"config": config, "room": name, "watches": watches, "other": other})


def strings() -> dict[str, str]:
    return {
        "caught": _("You got a buoy. Your score: {score}"),
        "overtaken": _("{name} leads with {score}."),
        "markYou": _(" (you)"),
        "markAway": _(" (away)"),
        "bot": _("Bot"),
        "full": _("This room is full. You are watching, and will get a boat as soon as one is free."),
        "watching": _("You are watching."),
        "nearest": _("Nearest buoy: {distance} metres, {direction}. {water}"),
        "ahead": _("straight ahead"),
        "right": _("to the right"),
        "left": _("to the left"),
        "behind": _("behind you"),
        "deep": _("You are in the fairway."),
        "shallow": _("You are in shallow water."),
        "entered": _("{name} joined."),
        "leftGame": _("{name} left."),
        "round": _("Round {number}"),
        "nextRound": _("Next round in {seconds} s"),
        "wins": _("{name} wins with {score}!"),
        "youWin": _("You win with {score}!"),
        "draw": _("A draw: {names}, {score} each"),
        "noWinner": _("Nobody got a buoy this time."),
        "between": _(", "),
        "won": _("{names}: {score}"),
        "nobody": _("Nobody"),
        "copied": _("Link copied."),
        "failed": _("The game has stopped. It starts again in a moment."),
        "tenLeft": _("Ten seconds left."),
    }
