"""What is counted in this process, and whether what it needs is up: in one place, for whoever reports it.

Each long-lived object counts for itself, and gives a frozen record of its numbers when it is asked. It registers here
as a *source*, under a name that it shares with others of its kind: all servers are `server`, all hubs `layers`. What
may be away for some time registers as a *probe*. `process_statistics` asks all of them. Registered objects are held
weakly: an object that is gone is no longer asked, and takes its numbers with it.

Names of numbers are plural nouns in lower case, as metrics have them. Numbers of one kind are added up.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, TypeAlias
from weakref import WeakKeyDictionary

logger = logging.getLogger("fairway.delivery")

Record: TypeAlias = Mapping[str, int]
"""A frozen record: names and numbers, as they were at one moment."""


class StatisticsSource(Protocol):
    """Counts something."""

    def statistics(self) -> Record:
        """What it has counted so far, or has at the moment. Called from any thread."""


class Probe(Protocol):
    """Something without which a part of the process does not work. It may have a method `lag` besides: the seconds for
    which one waits for it, as last measured, or None if that is not known. Called from any thread.
    """

    def is_up(self) -> bool:
        """Whether it works, as far as is known without trying. Called from any thread."""


class CounterSet:
    """Base of a class whose slots are counters: integers, public, which their owner adds to."""

    __slots__ = ("__weakref__",)

    def statistics(self) -> Record:
        """All the counters, by name."""
        return MappingProxyType({name: getattr(self, name) for name in self.__slots__})


class Statistics:
    """Counts of what was not delivered, or not on the shortest way, for this process.

    `sends_after_close`: messages for clients that had gone. `unhandled`: messages of clients that left while all
    handlers of their consumer were busy. `detours`: why broadcasts went through consumers, and how many did.
    """

    __slots__ = ("__weakref__", "detours", "sends_after_close", "unhandled")

    def __init__(self) -> None:
        self.sends_after_close = 0
        self.unhandled = 0
        self.detours: Counter[str] = Counter()

    def statistics(self) -> Record:
        """The counts, with the number of all detours."""
        return MappingProxyType(
            {
                "sends_after_close": self.sends_after_close,
                "unhandled": self.unhandled,
                "detours": self.detours.total(),
            }
        )


@dataclass(frozen=True, slots=True)
class ProcessStatistics:
    """What a process counts, by kind of source, and what is up, by name of probe."""

    counters: Mapping[str, Record]
    detours: Record
    """Why broadcasts went through consumers, and how many did."""
    up: Mapping[str, bool]
    lag: Mapping[str, float]
    """Seconds for which one waits for it, by name of probe, where that was measured."""


_sources: WeakKeyDictionary[StatisticsSource, str] = WeakKeyDictionary()
_probes: WeakKeyDictionary[Probe, str] = WeakKeyDictionary()
_lock = threading.Lock()


def register_source(kind: str, source: StatisticsSource) -> None:
    """Have the source asked for what it counts, as long as it lives."""
    with _lock:
        _sources[source] = kind


def register_probe(name: str, probe: Probe) -> None:
    """Have the probe asked whether it is up, as long as it lives."""
    with _lock:
        _probes[probe] = name


def process_statistics() -> ProcessStatistics:
    """Ask all sources and probes of this process. A name that several probes share is up if all of them are."""
    with _lock:
        sources, probes = list(_sources.items()), list(_probes.items())
    counters: dict[str, Counter[str]] = {}
    for source, kind in sources:
        counters.setdefault(kind, Counter()).update(source.statistics())
    up: dict[str, bool] = {}
    lag: dict[str, float] = {}
    for probe, name in probes:
        up[name] = up.get(name, True) and probe.is_up()
        measured = getattr(probe, "lag", None)
        seconds = None if measured is None else measured()
        if seconds is not None:
            lag[name] = max(lag.get(name, 0.0), seconds)
    return ProcessStatistics(
        MappingProxyType({kind: MappingProxyType(dict(record)) for kind, record in counters.items()}),
        MappingProxyType(dict(statistics.detours)),
        MappingProxyType(up),
        MappingProxyType(lag),
    )


statistics = Statistics()
register_source("delivery", statistics)


def note_detour(reason: str, what: str) -> None:
    """Count a broadcast that was not written straight to a socket; log `what` happens with the first for a reason."""
    if reason not in statistics.detours:
        logger.info("%s: %s", what, reason)
    statistics.detours[reason] += 1
