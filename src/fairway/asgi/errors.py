"""What the server raises to applications, and what it makes of the errors that they raise."""

from __future__ import annotations


class ConnectionClosed(OSError, RuntimeError):
    """Sent to a connection that has ended, or that the application has closed itself.

    ASGI message format 2.4 asks for an OSError; older applications catch RuntimeError: it is both.
    """


class ProtocolMisuse(RuntimeError, ValueError):
    """The application sent an event that the ASGI specification does not allow, or not now.

    Which error that is, the specification leaves open; uvicorn raises RuntimeError, Daphne ValueError: it is both.
    """


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status that an error asks for by its attribute `asgi_status`, if it was raised before there was any
    answer; None if it does not.
    """
    status = getattr(error, "asgi_status", None)
    return status if isinstance(status, int) else None
