"""Places of addresses: who shares one, how many there are, and that all come back."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.server.addresses import UNBOUNDED, Addresses, Place, key_of
from fairway.server.proxy import trusted_networks

PROXIES = trusted_networks(["10.0.0.0/8"])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::1", "::2", True),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, same: bool) -> None:
    assert (key_of(one) == key_of(other)) is same


def test_there_are_so_many_places_and_as_many_to_be_told_in() -> None:
    addresses = Addresses(2)
    places = [addresses.take("192.0.2.1") for _ in range(5)]

    assert [place and place.is_beyond for place in places] == [False, False, True, True, None]
    assert addresses.take("192.0.2.2") is not None, "another address has its own"


def test_who_is_told_takes_no_place_from_those_that_come_later() -> None:
    addresses = Addresses(1)
    first, _told = addresses.take("192.0.2.1"), addresses.take("192.0.2.1")
    assert first is not None
    first.give_back()
    first.give_back()

    second = addresses.take("192.0.2.1")

    assert second is not None
    assert not second.is_beyond
    assert addresses.take("192.0.2.1") is None


def test_trusted_proxies_have_no_bound() -> None:
    addresses = Addresses(1, PROXIES)

    assert [addresses.take("10.1.2.3") for _ in range(3)] == [UNBOUNDED] * 3
    assert len(addresses) == 0


def scope(client: str | None, forwarded: bytes = b"") -> dict[str, Any]:
    return {
        "client": client and (client, 5000),
        "headers": [(b"host", b"a"), *([(b"x-forwarded-for", forwarded)] if forwarded else [])],
    }


@pytest.mark.parametrize("peer", ["10.1.2.3", None])
def test_a_websocket_that_a_proxy_passes_on_is_its_clients(peer: str | None) -> None:
    addresses = Addresses(1, PROXIES)

    assert addresses.client_of(scope(peer, b"203.0.113.1, 203.0.113.9:80"), False) == ("203.0.113.9", 80)
    assert addresses.client_of(scope(peer), False) is None


def test_a_websocket_has_the_place_of_its_socket_unless_it_shares_it() -> None:
    addresses = Addresses(1, PROXIES)

    assert addresses.client_of(scope("192.0.2.1", b"203.0.113.9"), False) is None
    assert addresses.client_of(scope("192.0.2.1", b"203.0.113.9"), True) == ("192.0.2.1", 5000)


def test_what_is_kept_is_released_once() -> None:
    addresses = Addresses(1)
    place = addresses.take("192.0.2.1")
    assert place is not None
    addresses.keep("websocket", place)
    addresses.keep("another", UNBOUNDED)

    for one in ("websocket", "websocket", "another"):
        addresses.release(one)

    assert len(addresses) == 0


@given(st.integers(1, 3), st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=60))
def test_whatever_comes_and_goes_the_bound_holds_and_nothing_is_left(most: int, steps: list[tuple[bool, int]]) -> None:
    addresses = Addresses(most)
    held: list[tuple[str, Place]] = []
    for comes, number in steps:
        host = f"192.0.2.{number}"
        if comes:
            place = addresses.take(host)
            if place is not None:
                held.append((host, place))
        elif held:
            held.pop(number % len(held))[1].give_back()
        for is_beyond in (False, True):
            counts = Counter(host for host, place in held if place.is_beyond is is_beyond)
            assert all(count <= most for count in counts.values())
    assert len(addresses) == len({host for host, _ in held})
    for _, place in held:
        place.give_back()
    assert len(addresses) == 0
