"""Messages that only the holders of a key can read or make: AES-GCM.

A process encrypts with a *subkey*, which HKDF (RFC 5869) derives from the first key and a random *salt* of the process.
The salt travels with the message. So a nonce, which is random, needs to be unique only among the messages under one
salt. A process takes a new salt after 2**32 messages, when the chance that two nonces are equal reaches 2**-33 (NIST SP
800-38D, 8.3), and a forked child does at once. Receivers derive each sender's subkey once, and keep it.

The destination of a message is authenticated with it: its *place*, such as a group, and the `context`, which says whose
places these are. A message that is copied to another place or another site cannot be read there. One that is sent again
to its own place can.

    one byte MARK · 16 bytes salt · 12 bytes nonce · ciphertext · 16 bytes tag
"""

from __future__ import annotations

import itertools
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable

from fairway.layers.errors import InvalidChannelLayerError, Undecodable

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ImportError:
    _IS_ABLE = False
else:
    _IS_ABLE = True

MARK = b"\x1f"
"""The first byte of every encrypted message."""

MOST_MESSAGES = 2**32
"""How many messages are encrypted under one salt."""

MOST_SENDERS = 1024
"""How many senders' subkeys are kept. Beyond that, the sender that was seen first is forgotten."""

_SALT, _NONCE, _TAG = 16, 12, 16
_HEAD = len(MARK) + _SALT + _NONCE
_PURPOSE = b"fairway channel layer 1"


class Encryption:
    """Encrypts with the first key, and decrypts with any of them. Any thread may call it.

    `context` is authenticated with every message, as its place is. `random` returns this number of random bytes.
    """

    def __init__(
        self, keys: Iterable[str | bytes], context: str = "", random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._keys = _checked(keys)
        self._context = context.encode()
        self._random = random
        # Only senders of genuine messages get in, so that forged ones cannot push them out.
        self._senders: OrderedDict[bytes, AESGCM] = OrderedDict()
        self._take_salt()

    def _take_salt(self) -> None:
        """Take another salt, because its nonces may have been used in the parent process, or are used up."""
        salt = self._random(_SALT)
        self._own = salt, _subkey(self._keys[0], salt), itertools.count(1), os.getpid()

    def seal(self, data: bytes, place: str) -> bytes:
        """Encrypt data for a place."""
        salt, key, numbers, process = self._own
        # Not by a hook: uWSGI runs those of Python's forks only if its option py-call-osafterfork says so.
        if process != os.getpid() or next(numbers) > MOST_MESSAGES:
            self._take_salt()
            return self.seal(data, place)
        nonce = self._random(_NONCE)
        return b"".join((MARK, salt, nonce, key.encrypt(nonce, data, self._bound(place))))

    def open(self, data: bytes, place: str) -> bytes:
        """The data that a holder of a key sealed for this place. Raises `Undecodable` for anything else."""
        if not data.startswith(MARK):
            raise Undecodable("it is not encrypted, and whoever has no key could have sent it")
        if len(data) < _HEAD + _TAG:
            raise Undecodable("it is encrypted and too short")
        salt, nonce, sealed = data[1 : 1 + _SALT], data[1 + _SALT : _HEAD], data[_HEAD:]
        bound = self._bound(place)
        known = self._senders.get(salt)
        for key in [known] if known is not None else (_subkey(key, salt) for key in self._keys):
            try:
                opened: bytes = key.decrypt(nonce, sealed, bound)
            except InvalidTag:
                continue
            self._keep(salt, key)
            return opened
        raise Undecodable(
            "it is encrypted with a key that symmetric_encryption_keys does not have, was for another place, or is "
            "not genuine",
            sender=salt.hex(),
        )

    def _bound(self, place: str) -> bytes:
        return b"%d %b %b" % (len(self._context), self._context, place.encode())

    def _keep(self, salt: bytes, key: AESGCM) -> None:
        if salt not in self._senders:
            self._senders[salt] = key
            if len(self._senders) > MOST_SENDERS:
                self._senders.popitem(last=False)


def _checked(keys: Iterable[str | bytes]) -> list[bytes]:
    if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
        raise InvalidChannelLayerError(
            "CHANNEL_LAYERS, CONFIG: symmetric_encryption_keys is a list of keys: the first encrypts, all decrypt"
        )
    secrets = [key.encode() if isinstance(key, str) else key for key in keys]
    if not secrets or not all(isinstance(key, bytes) and key for key in secrets):
        raise InvalidChannelLayerError(
            "CHANNEL_LAYERS, CONFIG: symmetric_encryption_keys holds texts or bytes that are not empty, such as those "
            "that secrets.token_urlsafe(32) makes"
        )
    if not _IS_ABLE:
        raise InvalidChannelLayerError(
            "CHANNEL_LAYERS, CONFIG: symmetric_encryption_keys needs the package cryptography (the extra encryption of "
            "Fairway): pip install cryptography"
        )
    return secrets


def _subkey(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), length=32, salt=salt, info=_PURPOSE).derive(key))
