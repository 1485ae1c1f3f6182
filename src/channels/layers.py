"""The registry of configured channel layers, and the names that applications import.

`get_channel_layer()` returns a layer that `CHANNEL_LAYERS` configures. The contract of layers is in
`fairway.layers.contract`, and the in-memory layer in `fairway.layers.memory`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from channels import DEFAULT_CHANNEL_LAYER
from channels.exceptions import ChannelFull, InvalidChannelLayerError, MessageTooLarge
from fairway.delivery import when_serving
from fairway.layers.contract import BaseChannelLayer, broadcast
from fairway.layers.hub_layer import HubLayer
from fairway.layers.memory import MemoryChannelLayer

__all__ = [
    "BaseChannelLayer",
    "ChannelFull",
    "ChannelLayerManager",
    "InMemoryChannelLayer",
    "InvalidChannelLayerError",
    "MessageTooLarge",
    "broadcast",
    "channel_layers",
    "get_channel_layer",
]


class InMemoryChannelLayer(MemoryChannelLayer):
    """The layer for a single process, with the options of `MemoryChannelLayer`.

    It also has attributes that tests of applications read. `channels` and `groups` are the hub's own dicts, which may
    be changed in place. A channel looks like a queue of `(expires_at, message)`.
    """

    @property
    def channels(self) -> dict[str, Any]:
        """Channel name -> queue, for the channels that hold messages or have a reader."""
        return self.hub.channels

    @property
    def groups(self) -> dict[str, dict[str, float]]:
        """Group name -> {channel name -> time of joining}. A group without members does not exist."""
        return self.hub.groups

    def _clean_expired(self) -> None:
        """Drop expired messages and memberships now. This also happens without a call."""
        self.hub.expire()

    def _remove_from_groups(self, channel: str) -> None:
        """Take a channel out of every group."""
        self.hub.memberships.discard_from_all(channel)


class ChannelLayerManager:
    """The layers of this process by alias. Any thread may use it.

    A layer is made when it is first asked for. When `CHANNEL_LAYERS` changes, all layers are made anew.
    """

    def __init__(self) -> None:
        self.backends: dict[str, BaseChannelLayer] = {}
        self.watchers: list[Callable[[str, BaseChannelLayer], object]] = []
        """Functions that are called with the alias and the layer whenever a layer is made or set."""
        self._lock = threading.RLock()  # so that two threads cannot make one layer each
        setting_changed.connect(self._reset_backends)

    def _reset_backends(self, setting: str, **kwargs: Any) -> None:
        if setting == "CHANNEL_LAYERS":
            self.remake()

    def remake(self) -> None:
        """Forget all layers, and let them disconnect. They are made anew when they are asked for."""
        replaced, self.backends = self.backends, {}
        for layer in replaced.values():
            retire = getattr(layer, "retire", None)  # only layers with connections have it
            if retire is not None:
                retire()

    @property
    def configs(self) -> dict[str, Any]:
        """The setting `CHANNEL_LAYERS`, which is read anew each time. Empty if it is not set."""
        return getattr(settings, "CHANNEL_LAYERS", {})

    def make_backend(self, name: str) -> BaseChannelLayer:
        """Make a layer from the `CONFIG` of an alias. Raises `InvalidChannelLayerError` if the entry is invalid."""
        return self._make_backend(name, self.configs[name].get("CONFIG", {}))

    def make_test_backend(self, name: str) -> BaseChannelLayer:
        """Make a layer from the `TEST_CONFIG` of an alias, which must exist."""
        try:
            config = self.configs[name]["TEST_CONFIG"]
        except KeyError:
            raise InvalidChannelLayerError(f"CHANNEL_LAYERS[{name!r}] has no TEST_CONFIG: add one") from None
        return self._make_backend(name, config)

    def _make_backend(self, name: str, config: dict[str, Any]) -> BaseChannelLayer:
        return self.backend_class(name)(**config)

    def backend_class(self, name: str) -> Callable[..., BaseChannelLayer]:
        """Import the class that the `BACKEND` of an alias names. Raises `InvalidChannelLayerError` if that fails."""
        entry = self.configs[name]
        if not isinstance(entry, Mapping):
            raise InvalidChannelLayerError(f"CHANNEL_LAYERS[{name!r}] must be a dictionary, not {entry!r}")
        if "ROUTING" in entry:
            raise InvalidChannelLayerError(
                f"CHANNEL_LAYERS[{name!r}] has a ROUTING key, which belongs to Channels 1: remove it"
            )
        if "BACKEND" not in entry:
            raise InvalidChannelLayerError(f"CHANNEL_LAYERS[{name!r}] names no BACKEND: add its dotted path")
        try:
            return import_string(entry["BACKEND"])  # type: ignore[no-any-return]
        except ImportError as error:
            raise InvalidChannelLayerError(
                f"the BACKEND of CHANNEL_LAYERS[{name!r}], {entry['BACKEND']!r}, cannot be imported: {error}"
            ) from error

    def __getitem__(self, key: str) -> BaseChannelLayer:
        with self._lock:
            if key not in self.backends:
                if key not in self.configs:
                    raise KeyError(key)
                self._put(key, self.make_backend(key))
            return self.backends[key]

    def __contains__(self, key: str) -> bool:
        return key in self.configs

    def set(self, key: str, layer: BaseChannelLayer) -> BaseChannelLayer | None:
        """Set the layer of an alias. Return the previous layer, if it had been made."""
        previous = self.backends.pop(key, None)
        self._put(key, layer)
        return previous

    def _put(self, key: str, layer: BaseChannelLayer) -> None:
        self.backends[key] = layer
        for watcher in self.watchers:
            watcher(key, layer)


def get_channel_layer(alias: str = DEFAULT_CHANNEL_LAYER) -> BaseChannelLayer | None:
    """Return the layer of this alias, the same one on every call. None if `CHANNEL_LAYERS` does not have the alias."""
    layer = channel_layers.backends.get(alias)
    if layer is None and alias in channel_layers:
        return channel_layers[alias]
    return layer


channel_layers = ChannelLayerManager()


def _connect_early() -> None:
    """Make the layers that are ours, so that the server shows their state before they are used. Connect those whose
    class has `connects_early`: other processes must reach this one from its start.
    """
    for alias in channel_layers.configs:
        with contextlib.suppress(InvalidChannelLayerError):  # the system checks report it
            backend = channel_layers.backend_class(alias)
            if not (isinstance(backend, type) and issubclass(backend, HubLayer)):
                continue
            layer = channel_layers[alias]
            if getattr(backend, "connects_early", False):
                task = asyncio.get_running_loop().create_task(_connect(layer))
                _connecting.add(task)
                task.add_done_callback(_connecting.discard)


async def _connect(layer: BaseChannelLayer) -> None:
    with contextlib.suppress(ConnectionError):  # the layer logs it, and tries again
        await layer.new_channel()


_connecting: set[asyncio.Task[None]] = set()

when_serving(_connect_early)
