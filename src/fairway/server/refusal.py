"""A client that is told that it is refused: the answer, and the time that it has to read it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from fairway.protocols.http1 import Http1Protocol
from fairway.server.admission import Answer
from fairway.server.arrival import Arrival

if TYPE_CHECKING:
    from fairway.server.context import ServerContext

_MOST_DISCARDED = 1 << 16


class Refusal(Arrival):
    """A client that gets a refusal in clear text. Closing a socket with unread data would reset the connection, and the
    client would never see the answer. So the socket is read first, but only for a limited time and number of bytes.
    """

    __slots__ = ("_answer", "_left")

    def __init__(self, context: ServerContext, accepted: socket.socket, answer: Answer) -> None:
        super().__init__(context, accepted)
        self._answer = answer
        self._left = _MOST_DISCARDED

    def begin(self) -> None:
        """Answer, end our side, and wait for the client to end its own."""
        self.context.admission.refusing += 1
        super().begin()
        try:
            self.endpoint.send(in_bytes(self.context, self._answer))  # a fresh socket takes it whole
            self.endpoint.shutdown(socket.SHUT_WR)
        except OSError:
            self._end()

    @property
    def patience(self) -> float:
        return self.context.linger_seconds

    def step(self) -> None:
        try:
            size = len(self.endpoint.recv(_MOST_DISCARDED))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            size = 0
        self._left -= size
        if not size or self._left <= 0:
            self._end()

    def _leave(self) -> None:
        self.context.admission.refusing -= 1
        super()._leave()


def in_bytes(context: ServerContext, answer: Answer) -> bytes:
    """A complete response of the server."""
    status, reason, headers = answer
    lines = context.defaults().lines
    return Http1Protocol().error_response(status, reason, default_headers=lines, extra_headers=headers)
