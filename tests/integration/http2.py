"""A client that speaks HTTP/2 by means of `h2`, in clear and with prior knowledge; every wait has a deadline."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import hpack

from tests.integration.raw import DEADLINE, Client, Served

HEADERS, RST_STREAM, GOAWAY = 1, 3, 7

Headers = Iterable[tuple[bytes, bytes]]


@dataclass
class Answer:
    """What has come on one stream."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    pieces: list[bytes] = field(default_factory=list)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    informational: list[tuple[int, list[tuple[bytes, bytes]]]] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    @property
    def fields(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.headers}

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


class Http2Client:
    """`takes` is whether content that comes is acknowledged at once. What comes is looked at while something is waited
    for, and at no other time.
    """

    def __init__(self, client: Client, takes: bool = True) -> None:
        self._client = client
        self.takes = takes
        self.untaken: set[int] = set()
        """Streams whose content is not acknowledged; the window of the connection does not notice them."""
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self.h2 = h2.connection.H2Connection(config)
        self.answers: dict[int, Answer] = {}
        self.gone: list[tuple[int, int]] = []
        """Of each GOAWAY its code and the last stream."""
        self.pings = 0
        self.at_end = False
        self._has_ended = False
        self._unparsed = b""
        self._by_hand: set[int] = set()
        self.resets: dict[int, int] = {}
        """Of each stream that the server has reset the code, even if its answer was complete before."""
        self.raw_heads: dict[int, dict[bytes, bytes]] = {}

    @property
    def address(self) -> Any:
        """Where it comes from."""
        return self._client.writer.get_extra_info("sockname")

    async def begin(self, settings: dict[int, int] | None = None) -> None:
        if settings:
            self.h2.local_settings = h2.settings.Settings(client=True, initial_values=settings)
        self.h2.initiate_connection()
        await self.flush()

    async def flush(self) -> None:
        if self._has_ended:
            return
        with contextlib.suppress(ConnectionError):
            await self._client.send(self.h2.data_to_send())

    async def send(self, data: bytes) -> None:
        """Frames made by hand."""
        with contextlib.suppress(ConnectionError):
            await self._client.send(data)

    async def ask(self, method: bytes = b"GET", path: bytes = b"/", headers: Headers = (), ended: bool = True) -> int:
        """Open a stream; its number."""
        number: int = self.h2.get_next_available_stream_id()
        pseudo = [(b":method", method), (b":scheme", b"http"), (b":authority", b"a"), (b":path", path)]
        self.answers[number] = Answer()
        self.h2.send_headers(number, [*pseudo, *headers], end_stream=ended)
        await self.flush()
        return number

    async def content(self, number: int, data: bytes, ended: bool = True) -> None:
        """Send content, as far as the windows allow, and wait for more of them."""
        view = memoryview(data)
        while view:
            room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size, len(view))
            if room == 0:
                await self.until(lambda: self.answers[number].over or self.h2.local_flow_control_window(number) > 0)
                if self.answers[number].over:
                    return
                continue
            self.h2.send_data(number, bytes(view[:room]))
            view = view[room:]
            await self.flush()
        if ended:
            self.h2.end_stream(number)
            await self.flush()

    async def until(self, condition: Callable[[], Any], deadline: float = DEADLINE) -> None:
        """Read until something is so."""
        async with asyncio.timeout(deadline):
            while not condition():
                if self.at_end:
                    raise AssertionError("the server has ended the connection")
                await self._read()

    async def answer(self, number: int) -> Answer:
        """The whole answer, or what there is of it when the stream is reset."""
        await self.until(lambda: self.answers[number].over)
        return self.answers[number]

    async def request(
        self, method: bytes = b"GET", path: bytes = b"/", headers: Headers = (), body: bytes | None = None
    ) -> Answer:
        number = await self.ask(method, path, headers, ended=body is None)
        if body is not None:
            await self.content(number, body)
        return await self.answer(number)

    async def reset(self, number: int, code: int = h2.errors.ErrorCodes.CANCEL) -> None:
        self.h2.reset_stream(number, code)
        await self.flush()

    def reserve(self, count: int = 1) -> int:
        """The number of the first of some streams that are spoken on by hand: `resets` and `raw_heads` say what comes
        of them.
        """
        number: int = self.h2.get_next_available_stream_id()
        numbers = range(number, number + 2 * count, 2)
        # The library's next one is behind them.
        self.h2.highest_outbound_stream_id = numbers[-1]
        self._by_hand.update(numbers)
        return number

    def pause(self) -> None:
        """Take nothing from the socket."""
        self._client.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def end_side(self) -> None:
        """Send nothing more, and go on reading."""
        self._has_ended = True
        self._client.writer.write_eof()

    def vanish(self) -> None:
        """The server gets a reset of the whole connection."""
        self._client.reset()

    async def end(self, answers: bool = True) -> list[tuple[int, int]]:
        """Read to the end of the connection, answering SETTINGS and PING if so wanted; the GOAWAYs that have come: code
        and last stream.
        """
        self._has_ended = self._has_ended or not answers
        async with asyncio.timeout(DEADLINE):
            while not self.at_end:
                await self._read()
        return self.gone

    async def _read(self) -> None:
        try:
            data = await self._client.reader.read(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            self.at_end = True
            return
        for event in self.h2.receive_data(self._without_goaway(data)):
            self._take(event)
        await self.flush()

    def _without_goaway(self, data: bytes) -> bytes:
        """Whole frames. `h2` takes nothing more behind a GOAWAY, although what is under way is still answered."""
        self._unparsed += data
        frames = b""
        while len(self._unparsed) >= 9:
            end = 9 + int.from_bytes(self._unparsed[:3], "big")
            if len(self._unparsed) < end:
                break
            frame, self._unparsed = self._unparsed[:end], self._unparsed[end:]
            number = int.from_bytes(frame[5:9], "big")
            if frame[3] == GOAWAY:
                self.gone.append((int.from_bytes(frame[13:17], "big"), int.from_bytes(frame[9:13], "big")))
            elif number in self._by_hand:
                self._take_by_hand(number, frame)
            else:
                frames += frame
        return frames

    def _take_by_hand(self, number: int, frame: bytes) -> None:
        if frame[3] == RST_STREAM:
            self.resets[number] = int.from_bytes(frame[9:13], "big")
        elif frame[3] == HEADERS:
            # Our answers leave no trace in the table, so that any decoder will do.
            self.raw_heads[number] = dict(hpack.Decoder().decode(frame[9:], raw=True))

    def _take(self, event: Any) -> None:
        answer = self.answers.get(getattr(event, "stream_id", None), Answer())
        if isinstance(event, h2.events.ResponseReceived):
            answer.status = int(dict(event.headers)[b":status"])
            answer.headers = [field for field in event.headers if not field[0].startswith(b":")]
        elif isinstance(event, h2.events.InformationalResponseReceived):
            fields = [field for field in event.headers if not field[0].startswith(b":")]
            answer.informational.append((int(dict(event.headers)[b":status"]), fields))
        elif isinstance(event, h2.events.DataReceived):
            answer.body += event.data
            answer.pieces += [event.data] if event.data else []
            if event.stream_id in self.untaken:
                if event.flow_controlled_length:
                    self.h2.increment_flow_control_window(event.flow_controlled_length)
            elif self.takes:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            answer.trailers = list(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            answer.ended = True
        elif isinstance(event, h2.events.StreamReset):
            self.resets[event.stream_id] = int(event.error_code)
            if not answer.ended:
                answer.reset = int(event.error_code)
        elif isinstance(event, h2.events.PingReceived):
            self.pings += 1

    async def close(self) -> None:
        await self._client.close()

    async def dispose(self) -> None:
        """Let go of the connection, whatever is under way."""
        self._client.writer.transport.abort()


async def connect(
    served: Served, takes: bool = True, settings: dict[int, int] | None = None, receive_buffer: int | None = None
) -> Http2Client:
    """A client that has begun."""
    client = Http2Client(await served.connect(receive_buffer), takes)
    await client.begin(settings)
    return client
