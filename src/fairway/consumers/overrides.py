"""Whether anybody looks: which methods of the package's own consumers a class has overridden, or had replaced.

Between a client's message and the handler, and between what a handler sends and the socket, lie methods that a subclass
may override to see what passes. Where no class does, a message takes a shorter way: past `dispatch`, past the event
around a text, and past the whole consumer if it is a broadcast. The questions on which that depends are answered once
for each class.

A class may be changed long after it was made, by tools that instrument. So each answer is kept together with its
grounds, which are the definitions of these methods along the method resolution order. It is found again when these have
changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

_ON_THE_WAY: Final = ("__call__", "dispatch", "send")

_own_methods: set[object] = set()
_own_senders: set[type] = set()
# Replaced, never changed: a module may be imported in one thread while connections open in another.
_names: tuple[str, ...] = ()


def note_own(owner: type, *names: str) -> None:
    """Note these methods, defined by this class, as the package's own: anything else in their place is an override."""
    global _names
    _own_methods.update(owner.__dict__[name] for name in names)
    _names = tuple(dict.fromkeys((*_names, *names)))
    if "send" in names:
        _own_senders.add(owner)


class Overrides:
    """What a consumer class has overridden. `Overrides.of(consumer_class)` gives the one record of a class."""

    __slots__ = ("definitions", "names", "on_the_way", "sees_dispatch", "sees_messages", "sees_receive", "sees_send")

    definitions: list[object]
    """Whatever the class and its bases define under these names: when that has changed, the record is out of date."""
    names: frozenset[str]
    """Those of the package's own methods that are overridden."""
    on_the_way: tuple[str, ...]
    """Those of the overridden methods that every message passes."""
    sees_messages: bool
    """Whether a broadcast may not go past the consumer: it overrides a method that every message passes."""
    sees_dispatch: bool
    """Whether no handler may be called but by `dispatch`: it is overridden, or changes threads."""
    sees_receive: bool
    """Whether a message of the client may not go straight to `receive`: something that lies before it is overridden."""
    sees_send: bool
    """Whether the `send` of the package's class hands its events to a `send` which is not the package's."""

    def __init__(self, consumer_class: type[Any]) -> None:
        bases = consumer_class.__mro__
        self.definitions = _definitions(bases)
        self.names = frozenset(name for name in _names if _is_foreign(bases, name))
        self.on_the_way = tuple(name for name in _ON_THE_WAY if name in self.names)
        self.sees_messages = bool(self.on_the_way)
        self.sees_dispatch = consumer_class._sync or "dispatch" in self.names
        self.sees_receive = not self.names.isdisjoint(("dispatch", "websocket_receive"))
        sender = next((index for index, base in enumerate(bases) if base in _own_senders), len(bases))
        self.sees_send = _is_foreign(bases[sender + 1 :], "send")

    @classmethod
    def of(cls, consumer_class: type[Any]) -> Overrides:
        """The record of a class, made when it is first asked for, and anew when a method was replaced since.

        It lies in the class as `_fairway_overrides`, where instances find it without an attribute of their own.
        """
        record: Overrides | None = consumer_class.__dict__.get("_fairway_overrides")
        if record is None or record.definitions != _definitions(consumer_class.__mro__):
            record = cls(consumer_class)
            type.__setattr__(consumer_class, "_fairway_overrides", record)
        return record


def _definitions(bases: Sequence[type]) -> list[object]:
    found: list[object] = []
    for base in bases:
        found += map(base.__dict__.get, _names)
    return found


def _is_foreign(bases: Sequence[type], name: str) -> bool:
    """Whether the first definition of this method along these classes is not the package's; False without any."""
    for base in bases:
        if name in base.__dict__:
            return base.__dict__[name] not in _own_methods
    return False
