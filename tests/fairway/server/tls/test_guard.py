"""A client that keeps the loop busy with TLS alone is cut off, and no other is."""

from __future__ import annotations

import hashlib
import hmac
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from tests.fairway.loops import LoopFactory, on_each_loop, passes, run
from tests.fairway.server.tls.peer import Peer
from tests.fairway.server.tls.test_transport import connected

from fairway.server.tls.guard import Hold, guarding

CUT = "TLS records without data keep the server busy, such as key updates: cut"

# Policy ------------------------------------------------------------------------------------------------------------


def test_a_call_that_computes_for_too_long_holds_the_loop() -> None:
    hold, call = Hold(0.05), object()
    assert [hold.check(call, cpu) for cpu in (7.0, 7.04, 7.06, 7.6)] == [False, False, True, False]


def test_many_calls_that_compute_and_one_that_waits_hold_nothing() -> None:
    hold = Hold(0.05)
    assert not any(hold.check(object(), float(number)) for number in range(20))
    waiting = object()
    assert not any(hold.check(waiting, 20.0 + number / 1000) for number in range(20))
    assert not any(hold.check(None, 30.0 + number) for number in range(20))


# Key updates -------------------------------------------------------------------------------------------------------


def expand(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label without a context, for up to one block (RFC 8446 section 7.1)."""
    info = length.to_bytes(2, "big") + bytes((6 + len(label),)) + b"tls13 " + label + b"\0" + b"\1"
    return hmac.digest(secret, info, hashlib.sha384)[:length]


def key_updates(peer: Peer, secrets: Path, count: int) -> bytes:
    """Records with a KeyUpdate each (RFC 8446 section 4.6.3), which could be computed hours before they are sent."""
    aead = pytest.importorskip("cryptography.hazmat.primitives.ciphers.aead")
    assert (peer.tls.cipher() or [""])[0] == "TLS_AES_256_GCM_SHA384"
    (line,) = [one for one in secrets.read_text().splitlines() if one.startswith("CLIENT_TRAFFIC_SECRET_0 ")]
    secret = bytes.fromhex(line.split()[2])
    message = b"\x18\0\0\1\0" + b"\x16"  # update_not_requested, as a handshake record
    head = b"\x17\3\3" + (len(message) + 16).to_bytes(2, "big")
    flood = []
    for _ in range(count):
        # The first record under each key: the nonce is the IV itself.
        flood.append(head + aead.AESGCM(expand(secret, b"key", 32)).encrypt(expand(secret, b"iv", 12), message, head))
        secret = expand(secret, b"traffic upd", 48)
    return b"".join(flood)


class Sender:
    """Sends it all from a thread. `was_taken` says in the end whether that was possible."""

    def __init__(self, peer: Peer, data: bytes) -> None:
        self.was_taken = False
        self._socket = peer.raw
        self._data = data
        self._thread = threading.Thread(target=self._send)

    def _send(self) -> None:
        self._socket.setblocking(True)
        with suppress(OSError):
            self._socket.sendall(self._data)
            self.was_taken = True

    def __enter__(self) -> Sender:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.join()


@on_each_loop
def test_key_updates_that_are_few_are_read_and_the_connection_goes_on(tmp_path: Path, new_loop: LoopFactory) -> None:
    async def main() -> None:
        secrets = tmp_path / "secrets"
        with connected(tmp_path, secrets=secrets) as it, guarding(it.host):
            with Sender(it.peer, key_updates(it.peer, secrets, 20)) as sender:
                await passes(20)
            assert sender.was_taken
            it.transport.write(b"still here")
            it.peer.raw.setblocking(False)
            assert it.peer.read() == b"still here"
            assert it.host.faults == []

    run(new_loop, main())


@on_each_loop
def test_a_flood_of_key_updates_is_cut_off(tmp_path: Path, new_loop: LoopFactory) -> None:
    async def main() -> None:
        secrets = tmp_path / "secrets"
        with connected(tmp_path, secrets=secrets) as it, guarding(it.host, interval=0.001):
            with Sender(it.peer, key_updates(it.peer, secrets, 2500)):
                await it.until_lost()
            await it.until(lambda: it.host.faults)
            assert it.host.faults == [CUT]

    run(new_loop, main())


@on_each_loop
def test_a_loop_that_reads_much_is_left_alone(tmp_path: Path, new_loop: LoopFactory) -> None:
    async def main() -> None:
        with connected(tmp_path) as it, guarding(it.host, interval=0.001):
            for _ in range(40):
                it.peer.write(bytes(16384))
                await passes(1)
            await it.until(lambda: len(it.protocol.data) == 40 * 16384)
            assert it.host.faults == []

    run(new_loop, main())
