"""The contract between a wire and what carries its bytes."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol


class Transport(Protocol):
    """One bidirectional stream of bytes: the part of `asyncio.Transport` that this server uses.

    It calls its protocol: `data_received` for what arrives, `eof_received` at the end of the peer's side, and
    `connection_lost` last of all. It calls `pause_writing` when it holds more unsent bytes than its limit, and
    `resume_writing` when it holds few again.
    """

    def set_protocol(self, protocol: asyncio.BaseProtocol, /) -> None:
        """Call another protocol from now on."""

    def get_extra_info(self, name: str, default: Any = None, /) -> Any:
        """`socket`, `peername` and `sockname`, where they exist. `moved_at`, where held bytes take turns with those of
        other streams: when any of them last moved.
        """

    def write(self, data: bytes | memoryview, /) -> None:
        """Send the data, and hold what cannot be sent yet."""

    def get_write_buffer_size(self) -> int:
        """How many bytes are held."""

    def set_write_buffer_limits(self, high: int) -> None:
        """Call `pause_writing` when more than `high` bytes are held."""

    def pause_reading(self) -> None:
        """Report nothing that arrives until `resume_reading`, not even the end of the stream."""

    def resume_reading(self) -> None: ...

    def can_write_eof(self) -> bool:
        """Whether `write_eof` does something."""

    def write_eof(self) -> None:
        """End our side once everything is sent. The peer may go on sending."""

    def is_closing(self) -> bool:
        """Whether `close` or `abort` was called, or the connection is lost."""

    def close(self) -> None:
        """End both sides once everything is sent."""

    def abort(self) -> None:
        """End both sides now."""
