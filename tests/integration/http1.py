"""A client that speaks HTTP/1.1 by means of `h11`, with the calls of `tests.integration.http2.Http2Client`, so that one
test holds for both. One request follows the other, and its number counts them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import h11

from tests.integration.http2 import Answer, Headers
from tests.integration.raw import DEADLINE, Client, Served

CUT = -1
"""What `Answer.reset` is when the connection ends before the answer does."""


class Http1Client:
    def __init__(self, client: Client) -> None:
        self._client = client
        self.h11 = h11.Connection(h11.CLIENT)
        self.answers: dict[int, Answer] = {}
        self.at_end = False

    @property
    def address(self) -> Any:
        """Where it comes from."""
        return self._client.writer.get_extra_info("sockname")

    async def _send(self, *events: Any) -> None:
        data = b"".join([self.h11.send(event) or b"" for event in events])
        # The server may have answered and closed before it has everything.
        with contextlib.suppress(ConnectionError):
            await self._client.send(data)

    async def ask(self, method: bytes = b"GET", path: bytes = b"/", headers: Headers = (), ended: bool = True) -> int:
        """Begin the next request; its number."""
        number, head = self._begin(method, path, headers, ended)
        await self._send(head, *([h11.EndOfMessage()] if ended else []))
        return number

    def _begin(self, method: bytes, path: bytes, headers: Headers, ended: bool) -> tuple[int, h11.Request]:
        if self.answers:
            self.h11.start_next_cycle()
        fields = [(b"host", b"a"), *headers]
        names = {name for name, _ in fields}
        if b"te" in names:
            fields.append((b"connection", b"te"))
        if not (ended or b"content-length" in names):
            fields.append((b"transfer-encoding", b"chunked"))
        number = len(self.answers) + 1
        self.answers[number] = Answer()
        return number, h11.Request(method=method, target=path, headers=fields)

    async def content(self, number: int, data: bytes, ended: bool = True) -> None:
        await self._send(h11.Data(data), *([h11.EndOfMessage()] if ended else []))

    async def until(self, condition: Callable[[], Any], deadline: float = DEADLINE) -> None:
        """Read until something is so."""
        async with asyncio.timeout(deadline):
            while not condition():
                if self.at_end:
                    raise AssertionError("the server has ended the connection")
                await self._read()

    async def answer(self, number: int) -> Answer:
        """The whole answer, or what there is of it when the connection ends."""
        await self.until(lambda: self.answers[number].over)
        return self.answers[number]

    async def request(
        self, method: bytes = b"GET", path: bytes = b"/", headers: Headers = (), body: bytes | None = None
    ) -> Answer:
        # In one piece: whoever answers before the body has come closes behind its answer.
        number, head = self._begin(method, path, headers, body is None)
        await self._send(head, *([] if body is None else [h11.Data(body)]), h11.EndOfMessage())
        return await self.answer(number)

    async def end(self) -> None:
        """Read to the end of the connection."""
        async with asyncio.timeout(DEADLINE):
            while not self.at_end:
                await self._read()

    def end_side(self) -> None:
        """Send nothing more, and go on reading."""
        self._client.writer.write_eof()

    def vanish(self) -> None:
        """The server gets a reset."""
        self._client.reset()

    async def close(self) -> None:
        await self._client.close()

    async def _read(self) -> None:
        try:
            data = await self._client.reader.read(1 << 16)
        except ConnectionResetError:
            data = b""
        self.at_end = not data
        answer = self.answers[len(self.answers)]
        try:
            self.h11.receive_data(data)
            while (event := self.h11.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                self._take(answer, event)
                if isinstance(event, h11.ConnectionClosed):
                    break
        except h11.RemoteProtocolError:
            assert self.at_end, "an answer that is none"
            answer.reset = CUT

    def _take(self, answer: Answer, event: Any) -> None:
        if isinstance(event, h11.Response):
            answer.status = event.status_code
            answer.headers = [(bytes(name), bytes(value)) for name, value in event.headers]
        elif isinstance(event, h11.InformationalResponse):
            fields = [(bytes(name), bytes(value)) for name, value in event.headers]
            answer.informational.append((event.status_code, fields))
        elif isinstance(event, h11.Data):
            answer.body += event.data
            answer.pieces.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            answer.trailers = [(bytes(name), bytes(value)) for name, value in event.headers]
            answer.ended = True


async def connect(served: Served) -> Http1Client:
    return Http1Client(await served.connect())
