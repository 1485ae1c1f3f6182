"""What all responses of one second have in common: the fields that the server adds, and heads made with them."""

from __future__ import annotations

from email.utils import formatdate

from fairway.protocols.http.request import Headers
from fairway.protocols.http1 import PlainHeads
from fairway.protocols.http2 import PlainBlocks


class ResponseDefaults:
    """`server` and `date`, encoded for each version of HTTP. The date makes a new one necessary each second."""

    __slots__ = ("fields", "lines", "plain_blocks", "plain_heads", "second")

    fields: Headers

    lines: bytes
    """The fields in the form of HTTP/1.1."""

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
