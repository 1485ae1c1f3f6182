"""Statistics of the process: who counts is asked as long as it lives, and numbers of one kind are added up."""

from __future__ import annotations

import threading
from dataclasses import FrozenInstanceError

import pytest

from fairway.delivery import (
    CounterSet,
    note_detour,
    process_statistics,
    register_probe,
    register_source,
    statistics,
)


class Trips(CounterSet):
    __slots__ = ("landings", "starts")

    def __init__(self, starts: int = 0, landings: int = 0) -> None:
        self.starts = starts
        self.landings = landings


class Service:
    def __init__(self, up: bool) -> None:
        self.up = up

    def is_up(self) -> bool:
        return self.up


def test_counters_give_a_record_that_is_frozen() -> None:
    trips = Trips(starts=2)

    record = trips.statistics()
    trips.starts += 1

    assert record == {"starts": 2, "landings": 0}
    with pytest.raises(TypeError, match="does not support item assignment"):
        record["starts"] = 7  # type: ignore[index]


def test_numbers_of_one_kind_are_added_up_and_kinds_are_apart() -> None:
    planes, birds = [Trips(1, 1), Trips(3, 2)], Trips(500, 500)
    for plane in planes:
        register_source("planes", plane)
    register_source("birds", birds)

    counters = process_statistics().counters

    assert counters["planes"] == {"starts": 4, "landings": 3}
    assert counters["birds"] == {"starts": 500, "landings": 500}


def test_a_source_that_is_gone_takes_its_numbers_with_it() -> None:
    one, other = Trips(1), Trips(10)
    for trips in (one, other, other):
        register_source("balloons", trips)
    del trips, one

    assert process_statistics().counters["balloons"] == {"starts": 10, "landings": 0}
    del other
    assert "balloons" not in process_statistics().counters


def test_a_name_is_up_if_all_its_probes_are() -> None:
    services = [Service(True), Service(True), Service(True)]
    for name, service in zip(("post", "post", "tram"), services, strict=True):
        register_probe(name, service)
    assert process_statistics().up.items() >= {("post", True), ("tram", True)}

    services[0].up = False
    assert process_statistics().up.items() >= {("post", False), ("tram", True)}

    del service, services
    assert not {"post", "tram"} & process_statistics().up.keys()


def test_what_was_not_delivered_on_the_shortest_way_is_there_by_its_reason() -> None:
    before = process_statistics()
    for reason in ("rain", "rain", "fog"):
        note_detour(reason, "Trains are late")
    statistics.sends_after_close += 1
    statistics.unhandled += 2

    after = process_statistics()

    assert after.detours["rain"] - before.detours.get("rain", 0) == 2
    grown = {name: number - before.counters["delivery"][name] for name, number in after.counters["delivery"].items()}
    assert grown == {"sends_after_close": 1, "unhandled": 2, "detours": 3}


def test_the_statistics_of_a_process_are_frozen() -> None:
    found = process_statistics()

    with pytest.raises(FrozenInstanceError):
        found.up = {}  # type: ignore[misc]
    for part in (found.counters, found.counters["delivery"], found.detours, found.up):
        with pytest.raises(TypeError, match="does not support item assignment"):
            part["new"] = 1  # type: ignore[index]


def test_sources_come_and_go_in_other_threads_meanwhile() -> None:
    kept = Trips(1)
    register_source("ferries", kept)
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            register_source("ferries", Trips(0, 0))

    threads = [threading.Thread(target=come_and_go) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert all(process_statistics().counters["ferries"]["starts"] == 1 for _ in range(200))
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_a_lag_is_told_where_it_is_measured_and_the_longest_of_a_name() -> None:
    class Measured(Service):
        def __init__(self, seconds: float | None) -> None:
            super().__init__(True)
            self.seconds = seconds

        def lag(self) -> float | None:
            return self.seconds

    probes = [Measured(0.25), Measured(0.5), Measured(None), Service(True)]
    for name, probe in zip(("ferry", "ferry", "canoe", "raft"), probes, strict=True):
        register_probe(name, probe)
    lag = process_statistics().lag
    assert lag["ferry"] == 0.5
    assert not {"canoe", "raft"} & lag.keys()


def test_a_name_is_unused_if_none_of_its_probes_is_used() -> None:
    class Lazy(Service):
        def __init__(self, used: bool) -> None:
            super().__init__(True)
            self.used = used

        def is_used(self) -> bool:
            return self.used

    probes = [Lazy(False), Lazy(True), Lazy(False), Service(True)]
    for name, probe in zip(("sloop", "sloop", "yawl", "ketch"), probes, strict=True):
        register_probe(name, probe)
    found = process_statistics()
    assert {"sloop", "yawl", "ketch"} <= found.up.keys()
    assert "yawl" in found.unused
    assert not {"sloop", "ketch"} & set(found.unused)
