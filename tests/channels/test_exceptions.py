"""`channels.exceptions`: the names that applications import, and their bases."""

from __future__ import annotations

import pytest

import channels
from channels import exceptions


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("RequestAborted", Exception),
        ("RequestTimeout", exceptions.RequestAborted),
        ("InvalidChannelLayerError", ValueError),
        ("AcceptConnection", Exception),
        ("DenyConnection", Exception),
        ("ChannelFull", Exception),
        ("MessageTooLarge", Exception),
        ("StopConsumer", Exception),
    ],
)
def test_exception_has_its_base(name, base):
    assert getattr(exceptions, name).__bases__ == (base,)


def test_channel_full_carries_the_channel():
    assert exceptions.ChannelFull("busy").args == ("busy",)


def test_constants_of_the_package():
    assert channels.DEFAULT_CHANNEL_LAYER == "default"
    assert channels.__version__ == "4.3.2"
