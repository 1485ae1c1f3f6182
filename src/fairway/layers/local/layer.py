"""The channel layer over a local broker."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from fairway.delivery import is_serving
from fairway.layers.errors import InvalidChannelLayerError
from fairway.layers.layer import MAX_MESSAGE_SIZE, BackplaneLayer
from fairway.layers.local import protocol
from fairway.layers.local.backplane import LocalBackplane
from fairway.layers.local.blocking import BlockingLocal
from fairway.layers.local.project import DEFAULT_PREFIX, place_of
from fairway.layers.local.starting import answers, broker_for_a_while, start
from fairway.layers.trial import prepare_trials


class LocalChannelLayer(BackplaneLayer):
    """A layer for several processes on one machine, without any service.

    `socket` is the path at which the broker listens; by default it follows from the project and the prefix. Users of
    `group` may connect too. `start_broker` says whether a server or worker starts a broker if there is none. `prefix`
    separates sites that share a broker. A call fails if the broker sends nothing for `answer_timeout` seconds. For
    `outage_wait` seconds after the connection is lost, calls wait for the next one; later calls fail at once. Other
    options are those of `BackplaneLayer`.
    """

    connects_early = True  # when a server starts: other processes need the broker even before the first client

    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        group: str | int | None = None,
        start_broker: bool = True,
        prefix: str = DEFAULT_PREFIX,
        answer_timeout: float = 5.0,
        outage_wait: float = 2.0,
        max_message_size: int = MAX_MESSAGE_SIZE,
        linger: float = 3.0,
        **options: Any,
    ) -> None:
        if max_message_size > protocol.MAX_MESSAGE:
            raise InvalidChannelLayerError(
                f"max_message_size is {max_message_size}, and a message to other processes has at most "
                f"{protocol.MAX_MESSAGE} bytes (CHANNEL_LAYERS, CONFIG)"
            )
        if len(prefix.encode()) > protocol.MAX_PREFIX:
            raise InvalidChannelLayerError(f"prefix has more than {protocol.MAX_PREFIX} bytes (CHANNEL_LAYERS, CONFIG)")
        place = place_of(prefix, None if socket is None else os.fspath(socket), group)

        def make_backplane() -> LocalBackplane:
            starts = start_broker and is_serving()
            return LocalBackplane(
                place, prefix, (lambda: start(place)) if starts else None, answer_timeout, outage_wait, linger
            )

        blocking = BlockingLocal(place, prefix)
        super().__init__(make_backplane, max_message_size, prefix=prefix, blocking=blocking, linger=linger, **options)


@contextlib.contextmanager
def _on_trial(options: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Options for a layer that is only tried: at the broker that listens, or else at one that is started for it, beside
    the place where a server would have one.
    """
    prefix, socket, group = (options.get(name) for name in ("prefix", "socket", "group"))
    place = place_of(prefix or DEFAULT_PREFIX, socket, group)
    if not options.get("start_broker", True) or answers(place):
        yield options
        return
    with broker_for_a_while(place) as beside:
        yield {**options, "socket": beside.path}


prepare_trials(LocalChannelLayer, _on_trial)
