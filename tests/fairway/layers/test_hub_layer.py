"""Which layers consumers reach through a hub: ours, and subclasses that leave delivery alone."""

from __future__ import annotations

import pytest
from tests.fairway.layers.doubles import new_hub

from fairway.layers.hub_layer import delivers_through_hub, hub_of


@delivers_through_hub
class OwnLayer:
    def __init__(self) -> None:
        self.hub = new_hub()

    def send(self) -> None: ...
    def receive(self) -> None: ...
    def new_channel(self) -> None: ...
    def group_add(self) -> None: ...
    def group_discard(self) -> None: ...
    def group_send(self) -> None: ...


def test_a_layer_of_ours_is_reached_through_its_hub() -> None:
    layer = OwnLayer()

    assert hub_of(layer) is layer.hub


def test_a_subclass_that_leaves_delivery_alone_is_too() -> None:
    class Named(OwnLayer):
        def flush(self) -> None: ...

    layer = Named()

    assert hub_of(layer) is layer.hub


@pytest.mark.parametrize("name", ["send", "receive", "new_channel", "group_add", "group_discard", "group_send"])
def test_a_subclass_that_changes_delivery_is_asked(name: str) -> None:
    changed = type("Changed", (OwnLayer,), {name: lambda self: None})

    assert hub_of(changed()) is None


def test_foreign_layers_and_no_layer_have_no_hub() -> None:
    assert hub_of(object()) is None
    assert hub_of(None) is None
