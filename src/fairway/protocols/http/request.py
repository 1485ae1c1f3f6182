"""A request, as far as it is the same in every version of HTTP."""

from __future__ import annotations

from typing import Protocol, TypeAlias

Header: TypeAlias = tuple[bytes, bytes]
"""Name and value."""

Headers: TypeAlias = list[Header]
"""In the order in which they stand in a message; a name may occur more than once."""


class Request(Protocol):
    """The head of a request, complete and valid."""

    @property
    def method(self) -> str: ...

    @property
    def raw_path(self) -> bytes:
        """The path of the target as the peer wrote it; `*` for a request that is about the server itself."""

    @property
    def query_string(self) -> bytes:
        """What follows the `?` of the target."""

    @property
    def version(self) -> str:
        """As ASGI writes it: `1.0`, `1.1`, `2`."""

    @property
    def headers(self) -> Headers:
        """Names in lower case, in the order in which they arrived. The authority is in `host`."""
