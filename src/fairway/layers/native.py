"""Which layers deliver through a hub, so that consumers may attach to it instead of calling `receive`."""

from __future__ import annotations

from typing import TypeVar

from fairway.layers.hub import Hub

LayerClass = TypeVar("LayerClass", bound=type)

_DELIVERING = ("send", "receive", "new_channel", "group_add", "group_discard", "group_send")
_native: set[type] = set()
_is_native: dict[type, bool] = {}


def delivers_through_hub(layer_class: LayerClass) -> LayerClass:
    """Class decorator: instances have a `hub` that consumers may attach to instead of calling `receive`."""
    _native.add(layer_class)
    return layer_class


def hub_of(layer: object) -> Hub | None:
    """The hub of a layer whose class is one of ours, or a subclass that changes nothing about delivery; else None."""
    layer_class = type(layer)
    native = _is_native.get(layer_class)
    if native is None:
        owner = next((base for base in layer_class.__mro__ if base in _native), None)
        native = owner is not None and all(getattr(layer_class, name) is getattr(owner, name) for name in _DELIVERING)
        _is_native[layer_class] = native
    return layer.hub if native else None  # type: ignore[attr-defined]  # the decorator's promise
