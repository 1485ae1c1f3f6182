"""What is bounded in bytes takes about as many bytes: few messages in many groups, and many in one."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fairway.layers.backplane import Keep, Kept, Position
from fairway.layers.footprint import footprint
from fairway.layers.histories import Histories
from fairway.layers.hub import Hub
from fairway.layers.leases import Leases
from fairway.layers.stamps import stamped, unstamped
from fairway.layers.tracks import Tracks

KEEP = Keep(100_000, 3600)
SHAPES = [(500, 1), (50, 10), (1, 500)]
"""Numbers of groups, and of messages in each."""


def taken(build: Callable[[], Any]) -> tuple[int, Any]:
    """The bytes that are taken by what is built, and that."""
    gc.collect()
    tracemalloc.start()
    try:
        built = build()
        gc.collect()
        return tracemalloc.get_traced_memory()[0], built
    finally:
        tracemalloc.stop()


def arriving(groups: int, messages: int, size: int) -> Iterator[tuple[str, Kept[bytes]]]:
    """Messages of this size, as they come from a service."""
    for number in range(groups):
        for offset in range(1, messages + 1):
            position = Position(f"1b2c3d4e{number:x}", 10_000 + offset)
            kept = unstamped(stamped(Kept(b"x" * size, position, 1.7e9 + offset, position.offset - 1)))
            assert kept is not None
            yield f"g.chat.{number}", kept


@pytest.mark.slow
@pytest.mark.parametrize("size", [20, 200, 2000])
@pytest.mark.parametrize(("groups", "messages"), SHAPES)
def test_rings(groups: int, messages: int, size: int) -> None:
    def build() -> Tracks:
        tracks = Tracks(ring_bytes=2**30, max_bytes=2**30)
        for number in range(groups):
            tracks.open(f"g.chat.{number}")
        for subject, kept in arriving(groups, messages, size):
            tracks.arrived(subject, kept.position, kept.previous)
            tracks.delivered(subject, kept, KEEP.size)
        return tracks

    bytes_taken, tracks = taken(build)
    assert 0.8 < bytes_taken / tracks.size < 1.2


@pytest.mark.slow
@pytest.mark.parametrize("size", [20, 200, 2000])
@pytest.mark.parametrize(("groups", "messages"), SHAPES)
def test_histories_of_bytes(groups: int, messages: int, size: int) -> None:
    def build() -> Histories[bytes]:
        histories: Histories[bytes] = Histories("1b2c3d4e", max_bytes=2**30)
        for subject, kept in arriving(groups, messages, size):
            histories.append(subject, kept.data, len(kept.data), KEEP, 1000.0 + len(histories), kept.at)
        return histories

    bytes_taken, histories = taken(build)
    assert 0.8 < bytes_taken / histories.size < 1.2


@pytest.mark.slow
@pytest.mark.parametrize("size", [20, 200, 2000])
@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize(("groups", "members"), SHAPES)
def test_leases(groups: int, members: int, processes: int, size: int) -> None:
    """Entries of people who are alone in a group, and of many in one."""

    def build() -> Leases:
        leases = Leases()
        for process in map(str, range(processes)):
            leases.begin(process, 1, 5.0)
            for number in range(groups):
                for member in range(members):
                    leases.enter(process, 1, f"pr.chat.{number}", {f"user-{100_000 + member}": bytes([7]) * size})
        return leases

    bytes_taken, leases = taken(build)
    assert 0.8 < bytes_taken / leases.size < 1.2


def test_histories_without_messages() -> None:
    def build() -> Histories[bytes]:
        histories: Histories[bytes] = Histories("1b2c3d4e", max_bytes=2**30)
        for number in range(1000):
            histories.top(f"g.chat.{number}", 1000.0 + number)
        return histories

    bytes_taken, histories = taken(build)
    assert 0.8 < bytes_taken / histories.size < 1.2


MESSAGES: dict[str, Callable[[int], dict[str, Any]]] = {
    "text": lambda number: {"type": "chat.message", "text": f"{number:200}", "user": 100_000 + number},
    "board": lambda number: {"type": "changed", "cells": [[number + 1000 * x * y for x in range(9)] for y in range(9)]},
    "many": lambda number: {
        "type": "many",
        "items": [{"id": number + x, "on": True, "at": 0.5 * x} for x in range(20)],
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", MESSAGES)
@pytest.mark.parametrize(("channels", "messages"), [(1000, 1), (50, 20), (1, 500)])
def test_channels_that_nobody_reads(kind: str, channels: int, messages: int) -> None:
    def build() -> Hub:
        hub = Hub(lambda channel: 1000)
        for number in range(channels):
            for offset in range(messages):
                hub.send(f"made.up.{number}", MESSAGES[kind](1000 * number + offset))
        return hub

    bytes_taken, hub = taken(build)
    assert 0.8 < bytes_taken / hub.unread.size < 1.2


@pytest.mark.slow
@pytest.mark.parametrize("kind", MESSAGES)
@pytest.mark.parametrize(("groups", "messages"), SHAPES)
def test_histories_of_messages(kind: str, groups: int, messages: int) -> None:
    def build() -> Histories[Any]:
        histories: Histories[Any] = Histories("1b2c3d4e", max_bytes=2**30)
        for number in range(groups):
            for offset in range(messages):
                own = MESSAGES[kind](1000 * number + offset)
                histories.append(f"chat.{number}", own, footprint(own), KEEP, 1000.0 + offset, 1.7e9 + offset)
        return histories

    bytes_taken, histories = taken(build)
    assert 0.8 < bytes_taken / histories.size < 1.2
