"""Errors that the server raises in applications, and the HTTP status for errors that applications raise."""

from __future__ import annotations


class ConnectionClosed(OSError, RuntimeError):
    """The application sent to a connection that has ended, or that it has closed itself.

    ASGI message format 2.4 asks for an OSError, and older applications catch RuntimeError, so it is both.
    """


class ProtocolMisuse(RuntimeError, ValueError):
    """The application sent an event that the ASGI specification does not allow, or does not allow now.

    The specification does not define the type. uvicorn raises RuntimeError and Daphne ValueError, so this is both.
    """


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status in an error's attribute `asgi_status`. None if it has none.

    If the application raises the error before it has answered, the server answers with this status.
    """
    status = getattr(error, "asgi_status", None)
    return status if isinstance(status, int) else None
