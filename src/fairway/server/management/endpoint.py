"""The management socket: a thread that answers, whatever the rest of the process does.

The thread is independent of the event loop. So it answers even while the loop is blocked, and its clients delay nobody
else. It serves `MOST_CLIENTS` clients at once; more wait in the kernel's queue. Each client has `CLIENT_SECONDS` from
its connection to the end of its answer, and is cut off then.
"""

from __future__ import annotations

import errno
import selectors
import socket
import threading
import time
from contextlib import suppress

from fairway.logs import get_logger
from fairway.server.config import BindError, bind_host, bind_unix
from fairway.server.management.address import Address
from fairway.server.management.pages import BROKEN, Pages, answer

logger = get_logger("fairway.server")

MOST_CLIENTS = 8
CLIENT_SECONDS = 2.0

_READ_BYTES = 4096
_JOIN_SECONDS = 1.0
_PAUSE_SECONDS = 0.1


def listen(address: Address) -> socket.socket:
    """Open a non-blocking listening socket. A Unix socket gets mode 0600. Raises `BindError`."""
    try:
        if address.path:
            return bind_unix(address.path, 0o600)
        first, *others = bind_host(address.host, address.port)
    except BindError as error:
        if not address.path and error.errno == errno.EADDRINUSE:
            text = f"port {address.port} is already in use: choose another one with --management"
            raise BindError(error.errno, text) from error
        raise
    for one in others:
        one.close()
    return first


class _Client:
    def __init__(self, accepted: socket.socket, until: float) -> None:
        self.socket = accepted
        self.until = until
        self.received = b""
        self.response = b""


class Endpoint:
    """Answers with these pages from `start` until `close`. It owns `listening`, and closes it.

    The pages are made in its thread.
    """

    def __init__(self, listening: socket.socket, pages: Pages) -> None:
        self._listening = listening
        self._pages = pages
        self._clients: dict[socket.socket, _Client] = {}
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="fairway management", daemon=True)

    def start(self) -> None:
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread, and wait up to a second for it. Clients that have no complete answer are cut off."""
        self._wake.close()
        self._thread.join(_JOIN_SECONDS)

    def _serve(self) -> None:
        try:
            while self._go_round():
                pass
        finally:
            for client in list(self._clients):
                client.close()
            for one in (self._listening, self._woken, self._selector):
                one.close()

    def _go_round(self) -> bool:
        """Wait for the next events or the next deadline, and handle them. False after `close`."""
        now = time.monotonic()
        wait = min((client.until - now for client in self._clients.values()), default=None)
        for key, _ in self._selector.select(wait if wait is None else max(0.0, wait)):
            if key.fileobj is self._woken:
                return False
            if key.fileobj is self._listening:
                self._accept()
            else:
                self._step(self._clients[key.fileobj])  # type: ignore[index]  # a socket
        now = time.monotonic()
        for client in [one for one in self._clients.values() if now >= one.until]:
            self._drop(client)
        return True

    def _accept(self) -> None:
        try:
            accepted, _ = self._listening.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(_PAUSE_SECONDS)  # the socket stays readable: do not loop at full speed
            return
        accepted.setblocking(False)
        self._clients[accepted] = _Client(accepted, time.monotonic() + CLIENT_SECONDS)
        self._selector.register(accepted, selectors.EVENT_READ)
        if len(self._clients) == MOST_CLIENTS:
            self._selector.unregister(self._listening)

    def _step(self, client: _Client) -> None:
        try:
            if not client.response:
                self._read(client)
            if client.response:
                client.response = client.response[client.socket.send(client.response) :]
                if not client.response:
                    self._drop(client)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)

    def _read(self, client: _Client) -> None:
        data = client.socket.recv(_READ_BYTES)
        if not data:
            raise ConnectionResetError
        client.received += data
        try:
            response = answer(client.received, self._pages)
        except Exception:
            logger.exception("a page of the management socket cannot be made")
            response = BROKEN
        if response is not None:
            client.response = response
            self._selector.modify(client.socket, selectors.EVENT_WRITE)

    def _drop(self, client: _Client) -> None:
        if len(self._clients) == MOST_CLIENTS:
            self._selector.register(self._listening, selectors.EVENT_READ)
        del self._clients[client.socket]
        self._selector.unregister(client.socket)
        with suppress(OSError):
            client.socket.shutdown(socket.SHUT_WR)
        client.socket.close()
