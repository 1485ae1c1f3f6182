"""What a connection that does not end shares with all others."""

from __future__ import annotations

import pytest

from fairway.server.websocket.closing import NOT_CLOSING, Closing


@pytest.mark.parametrize("name", ["at", "event", "last", "until"])
def test_what_all_connections_share_cannot_be_changed(name: str) -> None:
    with pytest.raises(AttributeError, match=rf"object attribute '{name}' is read-only"):
        setattr(NOT_CLOSING, name, True)


def test_an_end_begins_with_nothing_known() -> None:
    for one in (Closing(), NOT_CLOSING):
        assert (one.at, one.event, one.last, one.until) == (None, {}, None, None)
