"""Messages as bytes in the form of channels_redis, for code that calls its serializers.

What they give is `random prefix · payload`; with keys the payload is a token of Fernet's. Fairway's layers have a form
of their own.
"""

from __future__ import annotations

import abc
import base64
import hashlib
import inspect
import json
import os
from collections.abc import Sequence
from typing import Any

import ormsgpack

TOLERANCE = 10
"""Seconds that the clocks of two machines may be apart."""


class SerializerDoesNotExist(KeyError):
    """No serializer is registered by that name."""


class BaseMessageSerializer(abc.ABC):
    """What every serializer does: encrypt, and put something random in front.

    `expiry`: seconds after which an encrypted message is not read any more.
    """

    def __init__(
        self,
        symmetric_encryption_keys: Sequence[str | bytes] | None = None,
        random_prefix_length: int = 0,
        expiry: float | None = None,
    ) -> None:
        self.random_prefix_length = random_prefix_length
        self.expiry = expiry
        self.crypter = self._crypter(symmetric_encryption_keys) if symmetric_encryption_keys else None

    @abc.abstractmethod
    def as_bytes(self, message: Any) -> bytes:
        """The message in this format."""

    @abc.abstractmethod
    def from_bytes(self, message: bytes) -> Any:
        """What `as_bytes` was given."""

    def serialize(self, message: Any) -> bytes:
        data = self.as_bytes(message)
        if self.crypter is not None:
            data = self.crypter.encrypt(data)
        return os.urandom(max(0, self.random_prefix_length)) + data

    def deserialize(self, message: bytes) -> Any:
        data = message[max(0, self.random_prefix_length) :]
        if self.crypter is not None:
            ttl = None if self.expiry is None else int(self.expiry) + TOLERANCE
            data = self.crypter.decrypt(data, ttl)
        return self.from_bytes(data)

    def make_fernet(self, key: str | bytes) -> Any:
        """A cipher of Fernet's whose key is made of any text or bytes."""
        try:
            from cryptography.fernet import Fernet
        except ImportError:
            raise ValueError("encryption needs the package cryptography: pip install cryptography") from None
        secret = key.encode() if isinstance(key, str) else key
        return Fernet(base64.urlsafe_b64encode(hashlib.sha256(secret).digest()))

    def _crypter(self, keys: Sequence[str | bytes]) -> Any:
        if isinstance(keys, str | bytes):
            raise ValueError("symmetric_encryption_keys is a list of keys: the first encrypts, all decrypt")
        ciphers = [self.make_fernet(key) for key in keys]
        from cryptography.fernet import MultiFernet

        return MultiFernet(ciphers)


class MsgPackSerializer(BaseMessageSerializer):
    """MessagePack."""

    def as_bytes(self, message: Any) -> bytes:
        return ormsgpack.packb(message)

    def from_bytes(self, message: bytes) -> Any:
        return ormsgpack.unpackb(message)


class JSONSerializer(BaseMessageSerializer):
    """JSON in UTF-8."""

    def as_bytes(self, message: Any) -> bytes:
        return json.dumps(message).encode()

    def from_bytes(self, message: bytes) -> Any:
        return json.loads(message)


class SerializersRegistry:
    """Serializers by name."""

    def __init__(self) -> None:
        self._classes: dict[str, Any] = {}

    def register_serializer(self, format: str, serializer_class: Any) -> None:
        """From now on the format is written and read by objects of this class."""
        assert inspect.isclass(serializer_class), f"{serializer_class!r} is not a class"
        for name in ("serialize", "deserialize"):
            assert callable(getattr(serializer_class, name, None)), f"{serializer_class.__name__} has no {name}()"
        self._classes[format] = serializer_class

    def get_serializer(self, format: str, *args: Any, **kwargs: Any) -> Any:
        """A new serializer; the arguments are those of its class."""
        if format not in self._classes:
            raise SerializerDoesNotExist(format)
        return self._classes[format](*args, **kwargs)


registry = SerializersRegistry()
registry.register_serializer("json", JSONSerializer)
registry.register_serializer("msgpack", MsgPackSerializer)
