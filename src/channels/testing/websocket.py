"""A client for tests, which opens a WebSocket to an application."""

# ruff: noqa: ASYNC109  the time-outs are part of asgiref's interface

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from channels.middleware import Application
from channels.testing.application import ApplicationCommunicator


class WebsocketCommunicator(ApplicationCommunicator):
    """One WebSocket. `path` may be a full URL, and may have a query string.

    `response_headers` are the headers of the acceptance. `denial_response` is the application's response (`status`,
    `headers`, `body`) if it rejects the WebSocket with the extension `websocket.http.response`. A test offers the
    extension with `scope["extensions"] = {"websocket.http.response": {}}`.
    """

    def __init__(
        self,
        application: Application,
        path: str,
        headers: Iterable[Sequence[bytes]] | None = None,
        subprotocols: Iterable[str] | None = None,
        spec_version: str | None = None,
    ) -> None:
        # Call this first: asgiref's finaliser fails if its `__init__` has not run.
        scope: dict[str, Any] = {}
        super().__init__(application, scope)
        if not isinstance(path, str):
            raise TypeError(f"Expected str, got {type(path)}")
        parsed = urlsplit(path)
        scope |= {
            "type": "websocket",
            "path": unquote(parsed.path),
            "query_string": parsed.query.encode("utf-8"),
            "headers": headers or [],
            "subprotocols": subprotocols or [],
        }
        if spec_version:
            scope["spec_version"] = spec_version
        self.response_headers: list[Sequence[bytes]] | None = None
        self.denial_response: dict[str, Any] | None = None

    async def connect(self, timeout: float = 1) -> tuple[bool, Any]:
        """Connect. Return `(True, subprotocol)`, or `(False, code)` if the application rejects the connection.

        The code is that of `websocket.close`, by default 1000, or the status of the denial response.
        """
        await self.send_input({"type": "websocket.connect"})
        answer = await self.receive_output(timeout)
        if answer["type"] == "websocket.close":
            return False, answer.get("code", 1000)
        if answer["type"] == "websocket.http.response.start":
            self.denial_response = await self._receive_denial(answer, timeout)
            return False, answer["status"]
        _expect("websocket.accept", answer)
        self.response_headers = answer.get("headers", [])
        return True, answer.get("subprotocol", None)

    async def send_to(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Send one message, either text or bytes."""
        assert bool(text_data) != bool(bytes_data) or (text_data is None) != (bytes_data is None), (
            "You must provide exactly one of text_data or bytes_data"
        )
        if bytes_data or text_data is None:
            assert isinstance(bytes_data, bytes), "The bytes_data argument must be of type bytes"
            await self.send_input({"type": "websocket.receive", "bytes": bytes_data})
        else:
            assert isinstance(text_data, str), "The text_data argument must be of type str"
            await self.send_input({"type": "websocket.receive", "text": text_data})

    async def send_json_to(self, data: Any) -> None:
        """Send `data` as JSON text."""
        await self.send_to(text_data=json.dumps(data))

    async def receive_from(self, timeout: float = 1) -> str | bytes:
        """Return the next message of the application. Fails if the application does anything else."""
        message = await self.receive_output(timeout)
        _expect("websocket.send", message)
        text, data = message.get("text"), message.get("bytes")
        assert (text is None) != (data is None), "The message must have exactly one of 'text' and 'bytes'"
        if text is not None:
            assert isinstance(text, str), "Text frame payload is not str"
            return text
        assert isinstance(data, bytes), "Binary frame payload is not bytes"
        return data

    async def receive_json_from(self, timeout: float = 1) -> Any:
        """Return the next message of the application, decoded from JSON text."""
        payload = await self.receive_from(timeout)
        assert isinstance(payload, str), "JSON data is not a text frame"
        return json.loads(payload)

    async def disconnect(self, code: int | None = 1000, timeout: float = 1) -> None:
        """Close the connection from the client's side, and wait until the application ends."""
        await self.send_input({"type": "websocket.disconnect", "code": code})
        await self.wait(timeout)

    async def _receive_denial(self, start: dict[str, Any], timeout: float) -> dict[str, Any]:
        chunks: list[bytes] = []
        more_body = True
        while more_body:
            chunk = await self.receive_output(timeout)
            _expect("websocket.http.response.body", chunk)
            chunks.append(chunk.get("body", b""))
            more_body = chunk.get("more_body", False)
        return {"status": start["status"], "headers": start.get("headers", []), "body": b"".join(chunks)}


def _expect(message_type: str, message: dict[str, Any]) -> None:
    assert message["type"] == message_type, f"Expected type '{message_type}', but was '{message['type']}'"
