"""Pages of the chat. What is said goes over the WebSocket; opening a room is an ordinary form."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from chat.forms import RoomForm
from chat.models import MAX_MESSAGE_LENGTH, Room
from people.identity import person_of_request


def lobby(request: HttpRequest) -> HttpResponse:
    """The chat without a room in its address: go where this visitor was last."""
    room = Room.objects.filter(pk=request.session.get("room")).first() or Room.objects.first()
    if room is None:
        return render_room(request, None, RoomForm())
    return redirect("chat:room", slug=room.slug)


def room(request: HttpRequest, slug: str) -> HttpResponse:
    room = get_object_or_404(Room, slug=slug)
    request.session["room"] = room.pk
    return render_room(request, room, RoomForm())


@require_POST
def open_room(request: HttpRequest) -> HttpResponse:
    form = RoomForm(request.POST)
    form.instance.opened_by = person_of_request(request)
    if form.is_valid():
        return redirect("chat:room", slug=form.save().slug)
    room = Room.objects.filter(pk=request.session.get("room")).first() or Room.objects.first()
    return render_room(request, room, form)


def render_room(request: HttpRequest, room: Room | None, form: RoomForm) -> HttpResponse:
    config = {
        "room": room.pk if room else None,
        "me": request.person.pk,
        "maxLength": MAX_MESSAGE_LENGTH,
        "strings": {
            "typingOne": _("{names} is typing…"),
            "typingMany": _("{names} are typing…"),
            "listSeparator": _(", "),
            "you": _("You"),
            "markYou": _(" (you)"),
            "left": _("{count} characters left"),
            "sending": _("Sending…"),
            "unsent": _("The connection was lost before your message was sent."),
            "connectedAgain": _("Back online. Your message has not been sent yet."),
            "earlier": {"one": _("{count} earlier message"), "other": _("{count} earlier messages")},
            "newMessages": {"one": _("{count} new message"), "other": _("{count} new messages")},
            "titleOf": _("{room} · Chat · Fairway"),
        },
    }
    context = {
        "room": room,
        "rooms": Room.objects.with_unread(request.person),
        "form": form,
        "config": config,
        "max_length": MAX_MESSAGE_LENGTH,
    }
    return render(request, "chat/room.html", context)
