"""What responses have in common for one second: the fields that the server adds, and heads that hold them."""

from __future__ import annotations

from email.utils import formatdate

from fairway.protocols.http.request import Headers
from fairway.protocols.http1 import PlainHeads
from fairway.protocols.http2 import PlainBlocks


class ResponseDefaults:
    """`server` and `date`, in the form of each version of HTTP; made anew each second, for the date."""

    __slots__ = ("fields", "lines", "plain_blocks", "plain_heads", "second")

    fields: Headers

    lines: bytes
    """The fields, as HTTP/1.1 writes them."""

    plain_heads: PlainHeads

    plain_blocks: PlainBlocks

    def __init__(self, server_name: str, second: int) -> None:
        self.second = second
        self.fields = [(b"date", formatdate(usegmt=True).encode("ascii"))]
        if server_name:
            self.fields.insert(0, (b"server", server_name.encode("ascii")))
        self.lines = b"".join([name + b": " + value + b"\r\n" for name, value in self.fields])
        self.plain_heads = PlainHeads(self.lines)
        self.plain_blocks = PlainBlocks(tuple(self.fields))
