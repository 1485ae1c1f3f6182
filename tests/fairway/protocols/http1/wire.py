"""Feeds a wire sample to a connection whole, byte by byte, and with bytes behind it, and demands the same events."""

from __future__ import annotations

from collections.abc import Iterable

from fairway.protocols.http1 import BodyReceived, Event, Http1Protocol, RequestEnded, RequestFailed, RequestHead

BEHIND = b"GET /behind HTTP/1.1\r\nHost: a\r\n\r\n"


def head(*lines: bytes, first: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: example.org") -> bytes:
    """Return a request head of a request line, a Host field unless it is empty, and more field lines."""
    return b"".join(line + b"\r\n" for line in (first, host, *lines) if line) + b"\r\n"


def chunked(body: bytes) -> bytes:
    return head(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.1") + body


def merged(events: Iterable[Event]) -> list[Event]:
    """Join neighbouring pieces of content: where they are cut depends on how the bytes came."""
    result: list[Event] = []
    for event in events:
        last = result[-1] if result else None
        if isinstance(event, BodyReceived) and isinstance(last, BodyReceived):
            result[-1] = BodyReceived(last.data + event.data)
        else:
            result.append(event)
    return result


def feed(pieces: Iterable[bytes], **limits: int) -> tuple[Http1Protocol, list[Event]]:
    connection = Http1Protocol(**limits)
    events: list[Event] = []
    for piece in pieces:
        events += connection.receive_data(piece)
        while connection.is_parted:
            events += connection.receive_data(b"")
    assert all(event.data for event in events if isinstance(event, BodyReceived)), "content without bytes"
    return connection, merged(events)


def receive(data: bytes, **limits: int) -> list[Event]:
    """Return the events of ``data``, which must make one request, whole or refused."""
    _, events = feed([data], **limits)
    _, by_byte = feed((data[i : i + 1] for i in range(len(data))), **limits)
    connection, with_trailing = feed([data + BEHIND], **limits)

    assert by_byte == events, "byte by byte gives other events than the whole"
    assert with_trailing == events, "bytes behind the request change its events"
    if isinstance(events[-1], RequestFailed):
        assert connection.buffered == 0
        assert connection.should_close
    return events


def accepted(data: bytes, **limits: int) -> RequestHead:
    """Return the head of a request that must be taken."""
    events = receive(data, **limits)
    first = events[0]
    assert isinstance(first, RequestHead), first
    assert events[-1] == RequestEnded()
    return first


def content(data: bytes, **limits: int) -> bytes:
    """Return the content of a request that must be taken."""
    accepted(data, **limits)
    return b"".join(event.data for event in receive(data, **limits) if isinstance(event, BodyReceived))


def refused(data: bytes, **limits: int) -> tuple[int, str]:
    """Return status and reason of a request that must be refused before its head is reported."""
    events = receive(data, **limits)
    assert len(events) == 1, events
    assert isinstance(events[0], RequestFailed), events
    assert events[0].reason == events[0].reason.strip()
    return events[0].status, events[0].reason


def refused_content(data: bytes, **limits: int) -> tuple[int, str]:
    """Return status and reason of a request whose head is taken and whose content must be refused."""
    events = receive(data, **limits)
    assert isinstance(events[0], RequestHead), events
    assert isinstance(events[-1], RequestFailed), events
    return events[-1].status, events[-1].reason
