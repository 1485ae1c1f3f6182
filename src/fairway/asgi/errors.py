"""Errors that the server raises in applications, and what it makes of the errors that these raise."""

from __future__ import annotations


class ConnectionClosed(OSError, RuntimeError):
    """The application sent to a connection that has ended, or that it has closed itself.

    ASGI message format 2.4 asks for an OSError, and older applications catch RuntimeError, so it is both.
    """


class ProtocolMisuse(RuntimeError, ValueError):
    """The application sent an event that the ASGI specification does not allow, or not now.

    The specification leaves open which error this is. uvicorn raises RuntimeError and Daphne ValueError, so it is both.
    """


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status that an error asks for by its attribute `asgi_status`, if it was raised before there was any
    answer; None if it does not.
    """
    status = getattr(error, "asgi_status", None)
    return status if isinstance(status, int) else None
