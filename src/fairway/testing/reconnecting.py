"""Clients for tests that lose their connection, and come back with the last position that they have got.

    client = ReconnectingCommunicator(application, "/chat/lobby/")
    await client.connect()
    ...
    await client.lose()                 # the network is gone; what has not been received is lost
    await send("while it was away")
    await client.reconnect()            # /chat/lobby/?since=...
    assert [message["text"] for message in client.received] == [...]

They do what a page does in a browser: `ReconnectingCommunicator` for a WebSocket, `EventSourceCommunicator` for
Server-Sent Events.
"""

# ruff: noqa: ASYNC109  the time-outs are those of the communicators

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from channels.middleware import Application
from channels.testing import HttpCommunicator, WebsocketCommunicator

LOST = 1006
"""The code of a connection that has ended without a closing handshake."""

_POSITIONS = ("layer.position", "position")


def position_in(message: Any) -> str | None:
    """The position in a decoded message: under the key "layer.position" or "position" of an object."""
    if isinstance(message, dict):
        for key in _POSITIONS:
            if isinstance(message.get(key), str):
                return str(message[key])
    return None


class ReconnectingCommunicator:
    """A page with a WebSocket that connects again. `path` may have a query string. `scope` is added to each scope.

    `position` is the one to come with at first, for a page that has got it from a view. `position_of` finds the
    position in a received message, decoded if it is JSON; None if it has none. `parameter` is that of the query.

    `connection` is the communicator of the present connection. `received` has all messages of all connections.
    """

    def __init__(
        self,
        application: Application,
        path: str,
        position: str = "",
        *,
        position_of: Callable[[Any], str | None] = position_in,
        parameter: str = "since",
        scope: Mapping[str, Any] | None = None,
        headers: Iterable[Sequence[bytes]] | None = None,
        subprotocols: Iterable[str] | None = None,
    ) -> None:
        self.position = position
        self.received: list[Any] = []
        self.connection: WebsocketCommunicator | None = None
        self._application = application
        self._path = path
        self._position_of = position_of
        self._parameter = parameter
        self._scope = scope or {}
        self._headers = list(headers or ())
        self._subprotocols = list(subprotocols or ())

    async def connect(self, timeout: float = 1) -> tuple[bool, Any]:
        """Connect, with the last position if there is one. Returns what `WebsocketCommunicator.connect` returns."""
        assert self.connection is None, "It is connected: lose() or disconnect() first"
        path = _with_query(self._path, self._parameter, self.position)
        connection = WebsocketCommunicator(self._application, path, self._headers, self._subprotocols)
        connection.scope.update(self._scope)
        answer = await connection.connect(timeout)
        if answer[0]:
            self.connection = connection
        return answer

    async def lose(self, timeout: float = 1) -> None:
        """Lose the connection. What has been sent to this client and was not received never arrives.

        Returns when the application has ended, which is told of the code 1006.
        """
        await self._end(LOST, timeout)

    async def reconnect(self, timeout: float = 1) -> None:
        """Come back with the last position. Fails if the application rejects it."""
        accepted, code = await self.connect(timeout)
        assert accepted, f"The application has rejected the connection: {code}"

    async def disconnect(self, code: int = 1000, timeout: float = 1) -> None:
        """Close the connection from the client's side, and wait until the application ends."""
        await self._end(code, timeout)

    async def send_to(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Send one message, either text or bytes."""
        await self._connection().send_to(text_data, bytes_data)

    async def send_json_to(self, data: Any) -> None:
        """Send `data` as JSON text."""
        await self._connection().send_json_to(data)

    async def receive_from(self, timeout: float = 1) -> str | bytes:
        """The next message, as it came. Its position is noted, and it is added to `received`, decoded if it is JSON."""
        payload = await self._connection().receive_from(timeout)
        message = _decoded(payload)
        self.received.append(message)
        self.position = self._position_of(message) or self.position
        return payload

    async def receive_json_from(self, timeout: float = 1) -> Any:
        """The next message, decoded from JSON text."""
        payload = await self.receive_from(timeout)
        assert isinstance(payload, str), "JSON data is not a text frame"
        return json.loads(payload)

    async def receive_nothing(self, timeout: float = 0.1) -> bool:
        """Whether nothing comes for this number of seconds."""
        return await self._connection().receive_nothing(timeout)

    async def _end(self, code: int, timeout: float) -> None:
        connection, self.connection = self._connection(), None
        await connection.disconnect(code, timeout)

    def _connection(self) -> WebsocketCommunicator:
        assert self.connection is not None, "It is not connected: connect() or reconnect() first"
        return self.connection


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a stream, as a browser hands it to the page. `id` is the last id of the stream so far."""

    data: str
    event: str = "message"
    id: str = ""


class EventSourceCommunicator:
    """A page with an EventSource: a stream of events that is requested again. `scope` is added to each scope.

    `last_event_id` is what it sends as Last-Event-ID. `received` has all events of all connections.
    """

    def __init__(
        self,
        application: Application,
        path: str,
        last_event_id: str = "",
        *,
        scope: Mapping[str, Any] | None = None,
        headers: Iterable[Sequence[bytes]] | None = None,
    ) -> None:
        self.last_event_id = last_event_id
        self.received: list[Event] = []
        self.connection: HttpCommunicator | None = None
        self._application = application
        self._path = path
        self._scope = scope or {}
        self._headers = list(headers or ())
        self._lines = _Lines()

    async def connect(self, timeout: float = 1) -> int:
        """Request the stream, with the last id if there is one. Returns the status; 200 if the stream is open."""
        assert self.connection is None, "It is connected: lose() first"
        headers = [(b"accept", b"text/event-stream"), *self._headers]
        if self.last_event_id:
            headers.append((b"last-event-id", self.last_event_id.encode()))
        connection = HttpCommunicator(self._application, "GET", self._path, headers=headers)
        connection.scope.update(self._scope)
        await connection.send_input({"type": "http.request", "body": b""})
        start = await connection.receive_output(timeout)
        assert start["type"] == "http.response.start", f"Expected a response, but got {start!r}"
        status: int = start["status"]
        if status == 200:
            self.connection = connection
            self._lines = _Lines()
        return status

    async def receive_event(self, timeout: float = 1) -> Event:
        """The next event. Comments are read over. `timeout` is in seconds, for each piece of the stream.

        Raises EOFError if the application has ended the stream.
        """
        connection = self._connection()
        while (found := self._lines.event()) is None:
            piece = await connection.receive_output(timeout)
            assert piece["type"] == "http.response.body", f"Expected a part of the stream, but got {piece!r}"
            self._lines.feed(piece.get("body", b""))
            if not piece.get("more_body", False):
                raise EOFError("the application has ended the stream")
        data, event, id = found
        self.last_event_id = self.last_event_id if id is None else id
        self.received.append(Event(data, event, self.last_event_id))
        return self.received[-1]

    async def receive_json_event(self, timeout: float = 1) -> Any:
        """The data of the next event, decoded from JSON text."""
        return json.loads((await self.receive_event(timeout)).data)

    async def lose(self, timeout: float = 1) -> None:
        """Lose the connection. What has been sent to this client and was not received never arrives.

        Returns when the application has ended.
        """
        connection, self.connection = self._connection(), None
        await connection.send_input({"type": "http.disconnect"})
        await connection.wait(timeout)

    async def reconnect(self, timeout: float = 1) -> None:
        """Come back with the last id. Fails if the application does not open the stream."""
        status = await self.connect(timeout)
        assert status == 200, f"The application has answered {status}"

    def _connection(self) -> HttpCommunicator:
        assert self.connection is not None, "It is not connected: connect() or reconnect() first"
        return self.connection


class _Lines:
    """A stream of events, line by line: section 9.2.6 of the WHATWG HTML standard, for the line ends that we write."""

    def __init__(self) -> None:
        self._rest = b""
        self._events: list[tuple[str, str, str | None]] = []
        self._data: list[str] = []
        self._event = ""
        self._id: str | None = None

    def feed(self, piece: bytes) -> None:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            self._line(line.decode())

    def event(self) -> tuple[str, str, str | None] | None:
        """Data, name and id of the next event. The id is None if the stream has not set any yet."""
        return self._events.pop(0) if self._events else None

    def _line(self, line: str) -> None:
        if not line:
            if self._data:
                self._events.append(("\n".join(self._data), self._event or "message", self._id))
            self._data, self._event = [], ""
            return
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._event = value
        elif field == "id":
            self._id = value


def _decoded(payload: str | bytes) -> Any:
    try:
        return json.loads(payload) if isinstance(payload, str) else payload
    except ValueError:
        return payload


def _with_query(path: str, parameter: str, position: str) -> str:
    if not position:
        return path
    between = "&" if urlsplit(path).query else "?"
    return f"{path}{between}{urlencode({parameter: position})}"
