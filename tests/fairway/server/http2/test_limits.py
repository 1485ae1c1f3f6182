"""What the settings of a server make of the bounds of the protocol."""

from __future__ import annotations

import pytest

from fairway.protocols.http2 import Http2Limits
from fairway.server.http2.limits import protocol_limits, stream_high_water
from fairway.server.limits import Limits


def test_the_defaults_are_those_of_the_protocol() -> None:
    assert protocol_limits(Limits()) == Http2Limits()


def test_the_largest_window_is_not_below_the_first() -> None:
    assert protocol_limits(Limits(http2_stream_window=2_000_000)).max_stream_window == 2_000_000
    assert protocol_limits(Limits(http2_max_stream_window=1)).max_stream_window == 65535


def test_each_has_its_own_setting() -> None:
    limits = protocol_limits(Limits(http2_discarded_bytes=7, http2_table_bytes=0))
    assert (limits.max_discarded_bytes, limits.table_bytes) == (7, 0)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(), 65536),
        (Limits(outbox_high_water=1000), 1000),
        (Limits(http2_stream_outbox_bytes=100_000), 100_000),
        (Limits(http2_outbox_bytes=10), 10),
    ],
)
def test_how_much_waits_for_one_stream(limits: Limits, expected: int) -> None:
    assert stream_high_water(limits) == expected
