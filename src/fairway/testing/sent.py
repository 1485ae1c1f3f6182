"""Records what is sent over the channel layers, so that tests can check it, like `django.core.mail.outbox` for mail.

    with record_sent() as sent:
        client.post("/orders/17/pay/")
    assert sent == [Sent("group_send", "orders.17", {"type": "order.changed", "state": "paid"})]

Messages are still delivered. They are recorded from every event loop and thread, over all layers that `CHANNEL_LAYERS`
configures, also layers of other projects. Each layer has up to three methods with which applications send, and some
layers have a `Sender` for synchronous code. While a recording is active, these methods are replaced in the objects, not
in their classes. At all other times nothing is replaced, so recording costs nothing.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from channels import DEFAULT_CHANNEL_LAYER
from channels.layers import channel_layers
from fairway.delivery import Payload
from fairway.layers.contract import names_in
from fairway.layers.copying import copied

logger = logging.getLogger("fairway.testing")

MOST = 10_000
"""How many records a list keeps at most. When there are more, the oldest are removed."""

Kind: TypeAlias = Literal["send", "group_send", "group_broadcast"]


@dataclass(frozen=True)
class Sent:
    """One sent message.

    `kind` is the method that sent it. `to` is the channel or group. `message` is the event, or the text or bytes of a
    broadcast. `layer` is an alias in `CHANNEL_LAYERS`. `exclude` names the channels that a broadcast leaves out.
    """

    kind: Kind
    to: str
    message: Any
    layer: str = DEFAULT_CHANNEL_LAYER
    exclude: tuple[str, ...] = ()


class SentMessages(list[Sent]):
    """Records in the order of the calls. Calls that raised are not included.

    `forgotten` is the number of records that were removed because there were more than `MOST`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forgotten = 0

    def to(self, name: str, layer: str = DEFAULT_CHANNEL_LAYER) -> list[Any]:
        """The messages that were sent to one channel or group."""
        return [record.message for record in self if record.to == name and record.layer == layer]


@contextlib.contextmanager
def record_sent() -> Iterator[SentMessages]:
    """Record what this process sends inside the block. In a `TestCase`, call `self.enterContext(record_sent())`."""
    records = SentMessages()
    _recorder.begin(records)
    try:
        yield records
    finally:
        _recorder.end(records)


class _Recorder:
    """Adds each sent message to the lists of all active recordings."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._lists: list[SentMessages] = []
        self._replaced: list[tuple[Any, str, object]] = []

    def begin(self, records: SentMessages) -> None:
        with self._lock:
            self._lists.append(records)
            if len(self._lists) == 1:
                channel_layers.watchers.append(self._watch)
                for alias, layer in list(channel_layers.backends.items()):
                    self._watch(alias, layer)

    def end(self, records: SentMessages) -> None:
        with self._lock:
            self._lists = [other for other in self._lists if other is not records]
            if not self._lists:
                channel_layers.watchers.remove(self._watch)
                while self._replaced:
                    owner, name, replacement = self._replaced.pop()
                    if owner.__dict__.get(name) is replacement:
                        delattr(owner, name)

    def _watch(self, alias: str, layer: Any) -> None:
        with self._lock:
            for kind in _METHODS:
                if hasattr(layer, kind):
                    self._replace(layer, kind, self._noting(alias, kind, getattr(layer, kind)))
            sender = getattr(getattr(layer, "node", None), "sender", None)
            for name, kind in _OF_SENDERS.items() if sender is not None else ():
                self._replace(sender, name, self._noting_now(alias, kind, getattr(sender, name)))

    def _replace(self, owner: Any, name: str, replacement: object) -> None:
        setattr(owner, name, replacement)
        self._replaced.append((owner, name, replacement))

    def _noting(self, alias: str, kind: Kind, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return a replacement for a method of a layer."""
        signature = inspect.signature(method)

        @functools.wraps(method)
        async def noting(*args: Any, **kwargs: Any) -> Any:
            call = signature.bind(*args, **kwargs)
            with self._noted(alias, kind, call):
                return await method(*call.args, **call.kwargs)

        return noting

    def _noting_now(self, alias: str, kind: Kind, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return a replacement for a method of a `Sender`, which is synchronous."""
        signature = inspect.signature(method)

        @functools.wraps(method)
        def noting(*args: Any, **kwargs: Any) -> Any:
            call = signature.bind(*args, **kwargs)
            with self._noted(alias, kind, call):
                return method(*call.args, **call.kwargs)

        return noting

    @contextlib.contextmanager
    def _noted(self, alias: str, kind: Kind, call: inspect.BoundArguments) -> Iterator[None]:
        """Record the call that the block makes, and remove the record if the block raises."""
        if _inside.get():
            yield
            return
        record = _record(alias, kind, call)
        with self._lock:
            lists = list(self._lists)
            for records in lists:
                _add(records, record)
        token = _inside.set(True)
        try:
            yield
        except BaseException:
            with self._lock:
                for records in lists:
                    _take_out(records, record)
            raise
        finally:
            _inside.reset(token)


_METHODS: Final[tuple[Kind, ...]] = ("send", "group_send", "group_broadcast")
_OF_SENDERS: Final[dict[str, Kind]] = {"send": "send", "group_send": "group_send", "broadcast": "group_broadcast"}

# Whether this code runs inside a call that is already recorded: a layer's method may call another of its methods.
_inside: ContextVar[bool] = ContextVar("_inside", default=False)

_recorder = _Recorder()


def _record(alias: str, kind: Kind, call: inspect.BoundArguments) -> Sent:
    to, message, *_ = *call.args, *call.kwargs.values()
    if kind != "group_broadcast":
        return Sent(kind, to, copied(message), alias)
    if isinstance(message, Payload):
        message = message.data if message.text is None else message.text
    elif message is None:
        message = call.arguments.get("bytes_data")
    excluded = call.arguments["exclude"] = tuple(names_in(call.arguments.get("exclude", ())))  # to read it only once
    return Sent(kind, to, message, alias, excluded)


def _add(records: SentMessages, record: Sent) -> None:
    records.append(record)
    if len(records) > MOST:
        if not records.forgotten:
            logger.warning("more than %d messages have been sent: the first ones are recorded no longer", MOST)
        records.forgotten += 1
        del records[0]


def _take_out(records: SentMessages, record: Sent) -> None:
    for index in range(len(records) - 1, -1, -1):
        if records[index] is record:
            del records[index]
            return
