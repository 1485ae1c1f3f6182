"""What a wire stands on."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol


class Transport(Protocol):
    """One bidirectional stream of bytes: as much of `asyncio.Transport` as this server uses, which is one of them.

    What it receives it gives to its protocol, by `data_received`, `eof_received` and at last `connection_lost`. It
    calls `pause_writing` when it holds more than its limit of what was written, `resume_writing` when it holds little.
    """

    def set_protocol(self, protocol: asyncio.BaseProtocol, /) -> None:
        """From now on another protocol is told what happens."""

    def get_extra_info(self, name: str, default: Any = None, /) -> Any:
        """`socket`, `peername` and `sockname`, as far as there are such. `moved_at`: if what is held waits for its turn
        among others, when any of these has last been sent.
        """

    def write(self, data: bytes | memoryview, /) -> None:
        """Send this, or hold what cannot be sent yet."""

    def get_write_buffer_size(self) -> int:
        """How many bytes are held."""

    def set_write_buffer_limits(self, high: int) -> None:
        """From how many bytes on `pause_writing` is called."""

    def pause_reading(self) -> None:
        """Give nothing to the protocol until `resume_reading`; not the end either."""

    def resume_reading(self) -> None: ...

    def can_write_eof(self) -> bool:
        """Whether `write_eof` does something."""

    def write_eof(self) -> None:
        """End our side once everything is sent; the peer may go on."""

    def is_closing(self) -> bool:
        """Whether `close` or `abort` was called, or the connection is lost."""

    def close(self) -> None:
        """End both sides once everything is sent."""

    def abort(self) -> None:
        """End both sides now."""
