"""A client for tests, which sends one HTTP request to an application."""

# ruff: noqa: ASYNC109  the time-outs are part of asgiref's interface

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from channels.middleware import Application
from channels.testing.application import ApplicationCommunicator


class HttpCommunicator(ApplicationCommunicator):
    """Sends one request. `path` may have a query string."""

    def __init__(
        self,
        application: Application,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Iterable[Sequence[bytes]] | None = None,
    ) -> None:
        # Call this first: asgiref's finaliser fails if its `__init__` has not run.
        scope: dict[str, Any] = {}
        super().__init__(application, scope)
        assert isinstance(body, bytes), "The body must be of type bytes"
        parsed = urlsplit(path)
        scope |= {
            "type": "http",
            "http_version": "1.1",
            "method": method.upper(),
            "path": unquote(parsed.path),
            "query_string": parsed.query.encode("utf-8"),
            "headers": headers or [],
        }
        self.body = body
        self.sent_request = False
        self.response: dict[str, Any] | None = None

    async def get_response(self, timeout: float = 1) -> dict[str, Any]:
        """Send the request, and return `status`, `headers` and the complete `body` of the response.

        `timeout` is in seconds, for each message of the application. Further calls return the same response.
        """
        if self.response is None:
            self.sent_request = True
            await self.send_input({"type": "http.request", "body": self.body})
            start = await self.receive_output(timeout)
            assert start["type"] == "http.response.start", f"Expected a response, but got {start!r}"
            body = await self._receive_body(timeout)
            fields = {key: value for key, value in start.items() if key != "type"}
            self.response = {"headers": [], **fields, "body": body}
        return self.response

    async def _receive_body(self, timeout: float) -> bytes:
        chunks: list[bytes] = []
        more_body = True
        while more_body:
            chunk = await self.receive_output(timeout)
            assert chunk["type"] == "http.response.body", f"Expected a part of the body, but got {chunk!r}"
            assert "body" in chunk, "A part of a response has no 'body'"
            chunks.append(chunk["body"])
            more_body = chunk.get("more_body", False)
        return b"".join(chunks)
