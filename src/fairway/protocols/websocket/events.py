"""The items that a WebSocket decoder returns besides messages, which are plain `str` and `bytes`."""

from __future__ import annotations

from collections.abc import Sequence
from sys import getsizeof


class LongText:
    """A long text in the pieces in which it has arrived. Joined, it may take four times their memory, because the
    widest character decides how much each of them takes. Its length is that of the text; `getsizeof` tells its memory.
    """

    __slots__ = ("_pieces",)

    def __init__(self, pieces: Sequence[str]) -> None:
        self._pieces = pieces

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def __sizeof__(self) -> int:
        return sum(map(getsizeof, self._pieces))

    def whole(self) -> str:
        """Join the pieces."""
        return "".join(self._pieces)


class Ping:
    """The peer asks for a Pong with the same data (RFC 6455 section 5.5.2)."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class Pong:
    """The answer to a Ping, or an unsolicited heartbeat (section 5.5.3)."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class Close:
    """A Close frame. `code` is 1005 if it has none (section 7.1.5)."""

    __slots__ = ("code", "reason")

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason


class Failure:
    """The peer broke the protocol or exceeded a limit. `code` is the close code to send. `reason` names the section."""

    __slots__ = ("code", "reason")

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
