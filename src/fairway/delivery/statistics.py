"""Collects what is counted in this process, and whether the services that it needs are up.

Each long-lived object counts for itself, and returns a read-only record of its numbers. It registers here as a
*source*, under the name of its kind: all servers are `server`, all hubs are `layers`. An object that depends on a
service registers as a *probe*. `process_statistics` asks all of them. References to registered objects are weak: once
an object is freed, it is not asked any more, and its numbers are no longer part of the sums.

The names of numbers are plural nouns in lower case, like the names of metrics. Numbers of one kind are added up.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, TypeAlias
from weakref import WeakKeyDictionary

logger = logging.getLogger("fairway.delivery")

Record: TypeAlias = Mapping[str, int]
"""A read-only record: names and numbers at one moment."""


class StatisticsSource(Protocol):
    """An object that counts something."""

    def statistics(self) -> Record:
        """The current numbers. Called from any thread."""


class Probe(Protocol):
    """Something that a part of the process needs in order to work, such as a service.

    It may also have a method `lag`, which returns the last measured delay in seconds, or None if it is not known, and a
    method `is_used`, which says whether anything uses it at all. All of them are called from any thread.
    """

    def is_up(self) -> bool:
        """Whether it works, as far as this is known without trying it. Must not wait."""


class CounterSet:
    """Base class for sets of counters. The slots of a subclass are public integers, which their owner increments."""

    __slots__ = ("__weakref__",)

    def statistics(self) -> Record:
        """All the counters, by name."""
        return MappingProxyType({name: getattr(self, name) for name in self.__slots__})


class Statistics:
    """Counts messages of this process that were not delivered, or not in the fastest way.

    * `sends_after_close`: messages that were sent to clients that had left.
    * `unhandled`: messages from clients that left while all handlers of their consumer were busy.
    * `detours`: broadcasts that a consumer had to send itself, by reason.
    """

    __slots__ = ("__weakref__", "detours", "sends_after_close", "unhandled")

    def __init__(self) -> None:
        self.sends_after_close = 0
        self.unhandled = 0
        self.detours: Counter[str] = Counter()

    def statistics(self) -> Record:
        """The counts, with the total of all detours."""
        return MappingProxyType(
            {
                "sends_after_close": self.sends_after_close,
                "unhandled": self.unhandled,
                "detours": self.detours.total(),
            }
        )


@dataclass(frozen=True, slots=True)
class ProcessStatistics:
    """The sums of a process's counters by kind of source, and the state of its probes by name."""

    counters: Mapping[str, Record]
    detours: Record
    """Broadcasts that a consumer had to send itself, by reason."""
    up: Mapping[str, bool]
    lag: Mapping[str, float]
    """Delays in seconds, by name of probe, for the probes that have measured one."""
    unused: Collection[str] = ()
    """Names of probes that nothing uses so far."""


_sources: WeakKeyDictionary[StatisticsSource, str] = WeakKeyDictionary()
_probes: WeakKeyDictionary[Probe, str] = WeakKeyDictionary()
_lock = threading.Lock()


def register_source(kind: str, source: StatisticsSource) -> None:
    """Ask the source for its numbers from now on, until it is freed."""
    with _lock:
        _sources[source] = kind


def register_probe(name: str, probe: Probe) -> None:
    """Ask the probe for its state from now on, until it is freed."""
    with _lock:
        _probes[probe] = name


def process_statistics() -> ProcessStatistics:
    """Ask all sources and probes of this process. If several probes share a name, it is up if all of them are up."""
    with _lock:
        sources, probes = list(_sources.items()), list(_probes.items())
    counters: dict[str, Counter[str]] = {}
    for source, kind in sources:
        counters.setdefault(kind, Counter()).update(source.statistics())
    up: dict[str, bool] = {}
    lag: dict[str, float] = {}
    used: set[str] = set()
    for probe, name in probes:
        is_used = getattr(probe, "is_used", None)
        if is_used is None or is_used():
            used.add(name)
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
        up.keys() - used,
    )


statistics = Statistics()
register_source("delivery", statistics)


def note_detour(reason: str, what: str) -> None:
    """Count a broadcast that was not written to the socket directly. The first one for each reason is logged."""
    if reason not in statistics.detours:
        logger.info("%s: %s", what, reason)
    statistics.detours[reason] += 1
