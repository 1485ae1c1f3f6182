"""What a WebSocket decoder reports besides messages. Messages themselves are bare `str` and `bytes`."""

from __future__ import annotations


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
    """A Close frame; `code` is 1005 when it carried none (section 7.1.5)."""

    __slots__ = ("code", "reason")

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason


class Failure:
    """The peer broke the protocol, or a limit: the close code to send, and the reason, ending with the section."""

    __slots__ = ("code", "reason")

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
