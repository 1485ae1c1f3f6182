"""Tries out whether a channel layer works, with random names that nobody else uses.

A trial sends a message to a channel, to a group and through a queue. If the layer has a `Sender` for synchronous code,
the trial also sends a message to the group with it. So an operator learns what the service refuses before a visitor
does. The outcome is one sentence about the problem, and one about what to do. Layers of any project can be tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

from fairway.layers.backplane import BackplaneError, Refused
from fairway.layers.errors import InvalidChannelLayerError
from fairway.layers.forwarding import ForwardingChannelLayer
from fairway.layers.hub_layer import HubLayer

PATIENCE = 3.0
"""Seconds that a whole trial may take."""

_AGAIN = 0.5  # seconds after which a message is sent again
_LOOK = 0.01

_ADVICE: tuple[tuple[type[BaseException], str], ...] = (
    (ssl.SSLCertVerificationError, "give ssl_ca_certs the file of who has signed the certificate, or correct the name"),
    (ssl.SSLError, "what listens there may not speak TLS, or not this: compare scheme and port with the service's"),
    (socket.gaierror, "no machine has this name: correct it"),
    (ConnectionRefusedError, "nothing listens there: start the service, or correct the address"),
    (FileNotFoundError, "there is no such file: start the service, or correct the path"),
    (PermissionError, "this user may not: run both as one user, or let it"),
    (ConnectionError, "if the service speaks TLS only, the address has to say so (rediss:// for Redis)"),
    (TimeoutError, "nothing answers there: look at the address, the port, TLS or not, and firewalls between"),
    (ImportError, "install what is missing"),
)
# Errors that waiting does not help against: the trial ends with the first of them, or when nothing listens.
_FINAL = (FileNotFoundError, PermissionError, socket.gaierror, ssl.SSLError)
_OF_BACKPLANES = "start the service, or correct where it is (CHANNEL_LAYERS, CONFIG)"
_OF_OTHERS = "correct the settings of the layer, or start what it needs (CHANNEL_LAYERS, CONFIG)"


@dataclass(frozen=True)
class Outcome:
    """The result of a trial.

    `problem` is a text, empty if everything works. `advice` says what to do about the problem. `seconds` is how long a
    message to a group took. `lacks` names the extensions that the layer does not have, such as `groups`.
    """

    problem: str = ""
    advice: str = ""
    seconds: float = 0.0
    lacks: tuple[str, ...] = ()


Preparation: TypeAlias = Callable[[Mapping[str, Any]], AbstractContextManager[Mapping[str, Any]]]

_preparations: dict[type, Preparation] = {}


def prepare_trials(layer_class: type, preparation: Preparation) -> None:
    """Try layers of this class inside a context manager, which may start what the layer needs.

    `preparation` gets the configured options. The context manager returns the options to try the layer with.
    """
    _preparations[layer_class] = preparation


def tried(layer_class: Callable[..., Any], options: Mapping[str, Any], patience: float = PATIENCE) -> Outcome:
    """Make a layer, try it, and close it, in a new thread with its own event loop. Failures become an `Outcome`.

    `patience` is the number of seconds that the trial may take.
    """
    with ThreadPoolExecutor(1) as pool, _quiet():
        return pool.submit(_tried, layer_class, options, patience).result()


def _tried(layer_class: Callable[..., Any], options: Mapping[str, Any], patience: float) -> Outcome:
    try:
        with contextlib.ExitStack() as stack:
            for base in getattr(layer_class, "__mro__", ()):
                if base in _preparations:
                    options = stack.enter_context(_preparations[base](options))
            layer = layer_class(**options)
            return asyncio.run(_try(layer, patience))
    except Exception as error:
        return _failure(error)


async def _try(layer: Any, patience: float) -> Outcome:
    trial = _Trial(layer, time.monotonic() + patience)
    try:
        async with asyncio.timeout(patience):
            return await _unless_it_cannot_connect(layer, trial.run())
    except Exception as error:
        # Prefer the reason why the layer is not connected: the error seen here is most often its consequence.
        reason = _reason(layer)
        if reason is None and isinstance(error, TimeoutError):
            return Outcome(f"{trial.step} has not arrived within {patience:g} s", dict(_ADVICE)[TimeoutError])
        return _failure(error, reason)
    finally:
        close = getattr(layer, "close", None) or getattr(layer, "close_pools", None)
        if close is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1.0):
                    await close()


async def _unless_it_cannot_connect(layer: Any, trying: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Run a trial, but end it as soon as it is known that nothing will come of it, and raise the reason.

    The layer itself goes on trying, because in a running site the service may come up later.
    """
    task = asyncio.ensure_future(trying)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=_LOOK)  # layers do not notify anybody
            reason = _reason(layer)
            if reason is not None and any(_is_refused(one) or isinstance(one, _FINAL) for one in _chain(reason)):
                raise reason
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])


class _Trial:
    """One trial of one layer. `step` says in words what the trial is waiting for."""

    def __init__(self, layer: Any, deadline: float) -> None:
        self.step = "the answer to new_channel"
        self._layer = layer
        self._deadline = deadline
        self._name = f"fairway-trial-{os.urandom(8).hex()}"
        self._seconds = 0.0

    async def run(self) -> Outcome:
        layer, name = self._layer, self._name
        channel = await layer.new_channel()
        await self._try("a message to a channel", channel, lambda message: layer.send(channel, message))
        lacks = () if "groups" in getattr(layer, "extensions", ()) else ("groups",)
        if not lacks:
            await self._try_group(channel)
        await self._try("a message through a queue", name, lambda message: layer.send(name, message))
        self.step = "the connection to every part of the service"
        while hasattr(layer, "is_up") and not layer.is_up():  # noqa: ASYNC110  # layers do not notify anybody
            await asyncio.sleep(_LOOK)
        return Outcome(seconds=self._seconds, lacks=lacks)

    async def _try_group(self, channel: str) -> None:
        layer, name = self._layer, self._name
        self.step = "the answer to group_add"
        await layer.group_add(name, channel)
        try:
            began = time.monotonic()
            await self._try("a message to a group", channel, lambda message: layer.group_send(name, message))
            self._seconds = time.monotonic() - began
            node = _node_of(layer)
            sender = node.sender if node is not None else None
            if sender is not None:
                await self._try(
                    "a message from synchronous code to a group",
                    channel,
                    lambda message: asyncio.to_thread(sender.group_send, name, message, self._deadline),
                )
        finally:
            await layer.group_discard(name, channel)

    async def _try(self, step: str, channel: str, send: Callable[[dict[str, Any]], Awaitable[object]]) -> None:
        """Send a message again and again until one arrives in the channel.

        One message is not enough, for two reasons. A layer that posts messages without waiting raises the refusal of
        one message only when the next one is sent. And some layers drop a message for a queue that nobody reads yet.
        """
        self.step = step
        reading = asyncio.ensure_future(self._arrives(step, channel))
        try:
            while not reading.done():
                await send({"type": "fairway.trial", "step": step})
                await asyncio.wait([reading], timeout=_AGAIN)
            await reading
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def _arrives(self, step: str, channel: str) -> None:
        while (await self._layer.receive(channel)).get("step") != step:
            pass


def _reason(layer: Any) -> BackplaneError | None:
    """Why a layer of Fairway, or one of the layers that it forwards to, is not connected. None if that is not known."""
    if isinstance(layer, ForwardingChannelLayer):
        return next(filter(None, map(_reason, layer.layers)), None)
    node = _node_of(layer)
    return node.home.problem() if node is not None else None


def _node_of(layer: Any) -> Any:
    # Importing the class of layers with a node would need packages that the in-memory layer does not.
    return getattr(layer, "node", None) if isinstance(layer, HubLayer) else None


def _failure(error: BaseException, reason: BaseException | None = None) -> Outcome:
    shown = error if reason is None or isinstance(error, Refused) else reason
    text = " ".join(str(shown).split()) or type(shown).__name__
    if isinstance(shown, Refused | InvalidChannelLayerError):
        problem, _, advice = text.partition("; ")
        return Outcome(problem, advice or _OF_BACKPLANES)
    if not isinstance(shown, BackplaneError | OSError):
        text = f"{type(shown).__name__}: {text}"
    return Outcome(text, _advice(shown))


def _advice(error: BaseException) -> str:
    for one in _chain(error):
        if _is_refused(one):
            return dict(_ADVICE)[ConnectionRefusedError]
        for kind, advice in _ADVICE:
            if isinstance(one, kind) and not isinstance(one, BackplaneError):
                return advice
    return _OF_BACKPLANES if isinstance(error, BackplaneError) else _OF_OTHERS


def _is_refused(error: BaseException) -> bool:
    """Whether nothing listens there. After several addresses, only asyncio's text says so."""
    return isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes, the first cause first."""
    if error is not None:
        yield from _chain(error.__cause__ or (None if error.__suppress_context__ else error.__context__))
        yield error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Disable the log of the layers: the caller reports the outcome of the trial itself."""
    logger = logging.getLogger("fairway.layers")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was_disabled
