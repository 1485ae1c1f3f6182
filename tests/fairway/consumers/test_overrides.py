"""`Overrides`: what a class overrides, and since when. What follows from it: `contracts/test_wrapping.py`."""

from __future__ import annotations

from typing import Any

import pytest

from channels.consumer import AsyncConsumer, SyncConsumer
from channels.generic.http import AsyncHttpConsumer
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from fairway.consumers.overrides import Overrides, note_own
from fairway.generic.sse import ServerSentEventsConsumer

OWN = [
    AsyncConsumer,
    SyncConsumer,
    AsyncWebsocketConsumer,
    WebsocketConsumer,
    AsyncHttpConsumer,
    ServerSentEventsConsumer,
]


async def other(*args: Any) -> None:
    """Stands in the place of a method."""


def subclass(base: type, *names: str) -> type:
    return type("Own", (base,), dict.fromkeys(names, other))


@pytest.mark.parametrize("base", OWN)
def test_the_packages_classes_override_nothing(base: type):
    overrides = Overrides.of(subclass(base, "receive", "chat_message"))
    # A stream reads no body, so it has nothing against a long one.
    assert overrides.names == ({"http_request"} if base is ServerSentEventsConsumer else set())
    assert (overrides.sees_messages, overrides.sees_receive, overrides.sees_send) == (False, False, False)


@pytest.mark.parametrize("base", OWN)
def test_only_a_synchronous_dispatch_is_needed_although_nobody_overrides_it(base: type):
    assert Overrides.of(subclass(base)).sees_dispatch is issubclass(base, SyncConsumer)


@pytest.mark.parametrize(
    ("names", "messages", "dispatch", "receive"),
    [
        (["__call__"], True, False, False),
        (["dispatch"], True, True, True),
        (["send"], True, False, False),
        (["websocket_receive"], False, False, True),
        (["receive"], False, False, False),
    ],
)
def test_who_sees_what(names: list[str], messages: bool, dispatch: bool, receive: bool):
    overrides = Overrides.of(subclass(AsyncWebsocketConsumer, *names))
    seen = overrides.sees_messages, overrides.sees_dispatch, overrides.sees_receive, overrides.sees_send
    assert seen == (messages, dispatch, receive, False)


def test_the_names_of_those_on_the_way_are_in_the_order_of_the_way():
    overrides = Overrides.of(subclass(ServerSentEventsConsumer, "send", "http_request", "send_event", "__call__"))
    assert overrides.on_the_way == ("__call__", "send")
    assert overrides.names == {"__call__", "send", "http_request", "send_event"}


def test_a_send_behind_that_of_the_package_sees_its_events():
    class Below(AsyncConsumer):
        send = other

    assert Overrides.of(type("Own", (AsyncWebsocketConsumer, Below), {})).sees_send
    # In front of it, it sees texts, which the package's send then sends as it likes.
    assert not Overrides.of(type("Own", (Below, AsyncWebsocketConsumer), {})).sees_send


def test_there_is_one_record_for_a_class_and_none_is_inherited():
    own = subclass(AsyncWebsocketConsumer)
    record = Overrides.of(own)
    assert Overrides.of(own) is record is own._fairway_overrides
    assert Overrides.of(subclass(own)) is not record


@pytest.mark.parametrize("base", [AsyncWebsocketConsumer, WebsocketConsumer])
def test_a_method_replaced_later_is_noticed_and_so_is_its_return(base: type, monkeypatch: pytest.MonkeyPatch):
    own = subclass(base)
    assert not Overrides.of(own).sees_messages
    with monkeypatch.context() as patch:
        patch.setattr(own, "send", other)
        assert Overrides.of(own).on_the_way == ("send",)
    with monkeypatch.context() as patch:
        patch.setattr(base, "send", other)
        assert Overrides.of(own).on_the_way == ("send",)
        assert not Overrides.of(own).sees_send
    with monkeypatch.context() as patch:
        patch.setattr(AsyncConsumer, "send", other)
        patch.setattr(SyncConsumer, "send", other)
        assert not Overrides.of(own).sees_messages
        assert Overrides.of(own).sees_send
    overrides = Overrides.of(own)
    assert (overrides.sees_messages, overrides.sees_send) == (False, False)


def test_what_is_noted_later_is_asked_of_classes_that_were_asked_before():
    class Own(AsyncConsumer):
        async def whisper(self) -> None: ...

    class Louder(Own):
        async def whisper(self) -> None: ...

    assert Overrides.of(Louder).names == frozenset()
    note_own(Own, "whisper")
    assert (Overrides.of(Own).names, Overrides.of(Louder).names) == (frozenset(), {"whisper"})


def test_a_class_that_forbids_to_be_changed_has_a_record_too():
    class Frozen(type):
        def __setattr__(cls, name: str, value: Any) -> None:
            raise TypeError("frozen")

    class Own(AsyncConsumer, metaclass=Frozen): ...

    assert Overrides.of(Own) is Overrides.of(Own)
