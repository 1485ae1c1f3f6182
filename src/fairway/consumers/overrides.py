"""Finds out which methods of the package's own consumers a class overrides.

Several methods stand between a client's message and its handler, and between a handler and the socket. A subclass may
override them to see or change what passes. If it does not, a message takes a shorter path: `dispatch` is not called,
texts are not wrapped into events, and broadcasts go past the whole consumer. Which paths are possible is determined
once for each class.

Tools that instrument code may replace methods long after a class was made. So each record keeps the definitions that it
was made from: those of these methods, along the method resolution order. If they have changed, a new record is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

_ON_THE_WAY: Final = ("__call__", "dispatch", "send")

_own_methods: set[object] = set()
_own_senders: set[type] = set()
# Always replaced as a whole, never changed: one thread may import a module while another one opens connections.
_names: tuple[str, ...] = ()


def note_own(owner: type, *names: str) -> None:
    """Note that these methods of this class are the package's own. Any other definition of them is an override."""
    global _names
    _own_methods.update(owner.__dict__[name] for name in names)
    _names = tuple(dict.fromkeys((*_names, *names)))
    if "send" in names:
        _own_senders.add(owner)


class Overrides:
    """What a consumer class overrides. `Overrides.of(consumer_class)` returns the record of a class."""

    __slots__ = ("definitions", "names", "on_the_way", "sees_dispatch", "sees_messages", "sees_receive", "sees_send")

    definitions: list[object]
    """What the class and its bases define under the noted names. If it has changed, the record is out of date."""
    names: frozenset[str]
    """The noted methods that are overridden."""
    on_the_way: tuple[str, ...]
    """The overridden methods that every message passes."""
    sees_messages: bool
    """Whether broadcasts must go through the consumer: it overrides a method that every message passes."""
    sees_dispatch: bool
    """Whether handlers must be called through `dispatch`: it is overridden, or it runs them in threads."""
    sees_receive: bool
    """Whether a client's message must not go to `receive` directly: a method in front of `receive` is overridden."""
    sees_send: bool
    """Whether the next `send` behind the package's own one, in the method resolution order, is an override."""

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
        """The record of a class. It is made at the first call, and again if a method has been replaced since.

        The record is stored in the class as `_fairway_overrides`, where instances find it too.
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
    """Whether the first definition of this method in these classes is not the package's own. False if there is none."""
    for base in bases:
        if name in base.__dict__:
            return base.__dict__[name] not in _own_methods
    return False
