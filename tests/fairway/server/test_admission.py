"""Who gets in, and what is counted and logged of everybody else."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.server import descriptors
from fairway.server.addresses import UNBOUNDED
from fairway.server.admission import Admission
from fairway.server.limits import Limits

ALICE, BOB = ("203.0.113.1", 5001), ("203.0.113.2", 5002)
PROXY = ("192.0.2.1", 443)


class Door:
    """An admission, its connections, and what it has counted and logged."""

    def __init__(self, **limits: Any) -> None:
        self.connections: set[object] = set()
        self.refused = self.address_refusals = 0
        self.log: list[str] = []
        self.admission = Admission(self.connections, Limits(**limits), [ip_network("192.0.2.0/24")], self, self.fault)

    def fault(self, kind: str, scope: Mapping[str, Any] | None, text: str) -> None:
        self.log.append(f"{kind}: {text}" if scope is None else f"{kind}: {scope['client'][0]} {scope['path']}: {text}")

    def enter(self, count: int) -> None:
        self.connections.update(object() for _ in range(count))


# The number of connections -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "count", "refusing", "kept"), [(0, 9, 0, True), (2, 2, 0, True), (2, 3, 0, False), (2, 4, 2, True)]
)
def test_one_too_many_is_told_so_and_counts_no_longer(limit: int, count: int, refusing: int, kept: bool) -> None:
    door = Door(max_connections=limit)
    door.enter(count)
    door.admission.refusing = refusing

    assert door.admission.keeps("GOAWAY") is kept
    assert (door.refused, door.log) == ((0, []) if kept else (1, ["connection limit: more than 2 connections: GOAWAY"]))
    assert door.admission.refusing == refusing + (not kept)
    assert door.admission.keeps("GOAWAY"), "whoever is refused does not count"


def test_zero_means_as_many_as_there_are_descriptors() -> None:
    assert Door().admission.max_connections == descriptors.for_connections()


def test_those_that_are_refused_need_descriptors_and_these_end_somewhere() -> None:
    door = Door(max_connections=10)
    most = 10 + descriptors.reserve() // 4
    door.enter(most - 3)
    door.admission.refusing = most - 13

    assert door.admission.has_descriptor(coming=2)
    assert door.log == []
    assert not door.admission.has_descriptor(coming=3)
    assert (door.refused, door.log) == (1, ["connection limit: more than 10 connections: 503"])


def test_the_first_websocket_of_a_connection_counts_with_it_and_others_by_themselves() -> None:
    door = Door(max_connections=3)
    admission = door.admission
    door.enter(1)
    for carried in range(3):
        assert admission.takes_websocket(carried)
        door.enter(1)
        admission.websocket_joined(carried + 1)
    assert admission.count == 3

    assert not admission.takes_websocket(3)
    assert (door.refused, door.log) == (1, ["connection limit: more than 3 connections: 503"])
    assert admission.takes_websocket(0), "another connection's first one counts already"


def test_websockets_of_one_socket_need_no_descriptors() -> None:
    door = Door(max_connections=10)
    door.enter(1)
    for carried in range(1, 1000):
        door.enter(1)
        door.admission.websocket_joined(carried)
    assert door.admission.has_descriptor(coming=5)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans())))
def test_a_connection_counts_as_many_as_the_websockets_that_it_carries_but_at_least_one(
    steps: list[tuple[int, bool]],
) -> None:
    door = Door(max_connections=100)
    carried: list[list[object]] = [[] for _ in range(4)]
    door.enter(4)
    for number, joins in steps:
        websockets = carried[number]
        if joins:
            websockets.append(object())
            door.connections.add(websockets[-1])
            door.admission.websocket_joined(len(websockets))
        elif websockets:
            door.connections.remove(websockets.pop())
            door.admission.websocket_left(len(websockets))
        assert door.admission.count == sum(max(1, len(each)) for each in carried)


# Memory ------------------------------------------------------------------------------------------------------------


def test_while_clients_hold_too_much_nobody_else_comes_in() -> None:
    door = Door()
    assert door.admission.has_memory()
    door.admission.short_of_memory = True
    assert not door.admission.has_memory()
    assert door.refused == 1
    assert door.log == [
        "short of memory: clients hold more than max_client_memory: new connections are answered 503"
    ]  # fmt: skip


# Addresses ---------------------------------------------------------------------------------------------------------


def test_without_a_bound_nobody_holds_a_place() -> None:
    admission = Door().admission
    assert admission.place_of_socket(ALICE, True) is UNBOUNDED
    assert admission.place_of_websocket({"client": ALICE, "headers": []}, True) is UNBOUNDED


@pytest.mark.parametrize(("is_told", "how"), [(True, "429"), (False, "closed")])
def test_an_address_has_its_places_and_as_many_to_be_refused(is_told: bool, how: str) -> None:
    door = Door(max_connections_per_address=2)
    places = [door.admission.place_of_socket(ALICE, is_told) for _ in range(5)]

    assert [place and place.is_beyond for place in places] == [False, False, True, True, None]
    assert door.admission.place_of_socket(BOB, is_told) is not None
    assert door.admission.place_of_socket(PROXY, is_told) is UNBOUNDED
    line = "address limit: 203.0.113.1 -: more than 2 connections of this address: "
    assert door.log == [line + how, line + how, line + "closed"]
    assert (door.address_refusals, door.refused) == (3, 0)


def test_a_websocket_beyond_the_bound_holds_nothing() -> None:
    door = Door(max_connections_per_address=1)
    scope = {"client": BOB, "path": "/chat", "headers": []}

    assert door.admission.place_of_websocket(scope, False) is UNBOUNDED, "it has the place of its socket"
    held = door.admission.place_of_websocket(scope, True)
    assert door.admission.place_of_websocket(scope, True) is None
    assert door.log == ["address limit: 203.0.113.2 /chat: more than 1 connections of this address: 429"]
    assert held is not None
    held.give_back()
    assert door.admission.addresses is not None
    assert len(door.admission.addresses) == 0


def test_a_websocket_through_a_proxy_counts_for_its_client() -> None:
    door = Door(max_connections_per_address=1)
    scope = {"client": PROXY, "path": "/chat", "headers": [(b"x-forwarded-for", b"203.0.113.1")]}

    assert door.admission.place_of_websocket(scope, False) is not UNBOUNDED
    assert door.admission.place_of_websocket(scope, False) is None
    assert door.log == ["address limit: 203.0.113.1 /chat: more than 1 connections of this address: 429"]
