"""The figures as metrics, in the text format of Prometheus (0.0.4).

This module writes the format itself. Prometheus' client library would need each number of each process in an object of
its own first, and a supervisor would have to load it for this alone. The tests read the result with that library's
parser.

All names are in `METRICS` and `OF_THE_SERVER`. The values of labels are slot numbers, words from this code, and for
`layer` the class of a channel layer; nothing that a client sends becomes a label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from fairway.server.management.figures import Figures
from fairway.server.management.overview import STATES, Overview

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"

Values = Mapping[str, float]
"""Numbers by the value of a label."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of each process. `value` takes it from the figures: a number, a number for each value of `label`, or
    None if the process does not have it.
    """

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    value: Callable[[Figures], float | Values | None]
    label: str = ""


def _counter(kind: str, name: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures["counters"].get(kind, {}).get(name)


def _responses(figures: Figures) -> Values:
    counters = figures["counters"].get("server", {})
    prefix = "responses_"
    return {name.removeprefix(prefix): number for name, number in counters.items() if name.startswith(prefix)}


def _up(figures: Figures) -> Values:
    return {name.removeprefix("channel layer "): float(is_up) for name, is_up in figures["up"].items()}


def _lag(figures: Figures) -> Values:
    return {name.removeprefix("channel layer "): seconds for name, seconds in figures["lag"].items()}


METRICS: tuple[Metric, ...] = (
    Metric("fairway_connections", "gauge", "Open connections.", lambda figures: figures["connections"], "kind"),
    Metric(
        "fairway_connections_limit", "gauge", "Most open connections at once.",
        lambda figures: figures["connections_limit"],
    ),
    Metric("fairway_tasks", "gauge", "Calls of the application that run.", lambda figures: figures["tasks"]),
    Metric(
        "fairway_accepted_connections_total", "counter", "Connections that were accepted.",
        _counter("server", "connections"),
    ),
    Metric(
        "fairway_refused_total", "counter", "Connections and requests beyond a limit.", _counter("server", "refused")
    ),
    Metric(
        "fairway_address_refusals_total", "counter", "Connections of addresses that had too many.",
        _counter("server", "address_refusals"),
    ),
    Metric("fairway_requests_total", "counter", "HTTP requests.", _counter("server", "requests")),
    Metric(
        "fairway_responses_total", "counter", "HTTP responses by class; none: the client left before.",
        _responses, "class",
    ),
    Metric("fairway_websockets_total", "counter", "WebSocket handshakes.", _counter("server", "websockets")),
    Metric(
        "fairway_messages_received_total", "counter", "Messages of WebSocket clients.",
        _counter("server", "messages_received"),
    ),
    Metric(
        "fairway_broadcast_deliveries_total", "counter", "Broadcasts brought straight to a socket, by sockets.",
        lambda figures: figures["delivered"],
    ),
    Metric(
        "fairway_broadcast_detours_total", "counter", "Broadcasts that went through consumers.",
        _counter("delivery", "detours"),
    ),
    Metric(
        "fairway_dropped_frames_total", "counter", "Frames that slow or lost clients did not get.",
        _counter("server", "dropped_frames"),
    ),
    Metric(
        "fairway_slow_consumers_total", "counter", "Clients that were dropped for being too slow.",
        _counter("server", "slow_consumers"),
    ),
    Metric(
        "fairway_slow_senders_total", "counter", "Bodies and messages that came too slowly.",
        _counter("server", "slow_senders"),
    ),
    Metric(
        "fairway_rate_excesses_total", "counter", "How often a WebSocket's client sent more than its rate.",
        _counter("server", "rate_excesses"),
    ),
    Metric(
        "fairway_memory_drops_total", "counter", "Clients that were dropped because all together held too much.",
        _counter("server", "memory_drops"),
    ),
    Metric(
        "fairway_received_bytes_total", "counter", "Bytes of clients, after TLS; http1: WebSockets too.",
        lambda figures: figures["received_bytes"], "over",
    ),
    Metric(
        "fairway_sent_bytes_total", "counter", "Bytes to clients, before TLS; http1: WebSockets too.",
        lambda figures: figures["sent_bytes"], "over",
    ),
    Metric(
        "fairway_inbox_messages", "gauge", "Messages that consumers have not taken yet.",
        lambda figures: figures["waiting"]["messages"],
    ),
    Metric(
        "fairway_inbox_messages_largest", "gauge", "The most of them that wait for one consumer.",
        lambda figures: figures["waiting"]["most_messages"],
    ),
    Metric(
        "fairway_outbox_bytes", "gauge", "Bytes that clients have not taken yet.",
        lambda figures: figures["waiting"]["bytes"],
    ),
    Metric(
        "fairway_outbox_bytes_largest", "gauge", "The most of them that wait for one client.",
        lambda figures: figures["waiting"]["most_bytes"],
    ),
    Metric("fairway_faults_total", "counter", "Bad input, and faults of peers.", _counter("server", "faults")),
    Metric(
        "fairway_application_errors_total", "counter", "Exceptions of the application.", _counter("server", "errors")
    ),
    Metric("fairway_layer_up", "gauge", "Whether a channel layer works.", _up, "layer"),
    Metric(
        "fairway_layer_lag_seconds", "gauge", "How long a message takes over a channel layer, last or now.", _lag,
        "layer",
    ),
    Metric("fairway_layer_groups", "gauge", "Groups with members here.", _counter("layers", "groups")),
    Metric("fairway_layer_memberships", "gauge", "Members of all groups here.", _counter("layers", "memberships")),
    Metric(
        "fairway_layer_dropped_messages_total", "counter", "Messages of layers that a full inbox refused.",
        _counter("layers", "dropped_messages"),
    ),
    Metric(
        "fairway_layer_published_total", "counter", "Messages sent to other processes.",
        _counter("backplane", "published"),
    ),
    Metric(
        "fairway_layer_received_total", "counter", "Messages that came from other processes.",
        _counter("backplane", "received"),
    ),
    Metric(
        "fairway_layer_outages_total", "counter", "How often what a layer needs went away.",
        _counter("backplane", "outages"),
    ),
    Metric("fairway_rooms", "gauge", "Rooms that run in this process.", _counter("rooms", "running")),
    Metric(
        "fairway_room_failures_total", "counter", "Errors that ended or restarted a room.",
        _counter("rooms", "failures"),
    ),
    Metric(
        "fairway_room_missed_ticks_total", "counter", "Ticks that late rooms have left out.",
        _counter("rooms", "missed_ticks"),
    ),
    Metric(
        "fairway_room_dropped_messages_total", "counter", "Messages to rooms that were behind, or had not begun.",
        _counter("rooms", "dropped_messages"),
    ),
    Metric(
        "fairway_loop_lag_seconds", "gauge", "The longest that the event loop was late, lately or now.",
        lambda figures: figures["loop_lag"],
    ),
    Metric(
        "fairway_loop_late_seconds_total", "counter", "By how much the event loop was late, added up.",
        lambda figures: figures["loop_late"],
    ),
    Metric(
        "fairway_resident_memory_bytes", "gauge", "Memory of the process, shared parts included.",
        lambda figures: figures["resident"],
    ),
    Metric("fairway_cpu_seconds_total", "counter", "Processor time, user and system.", lambda figures: figures["cpu"]),
)  # fmt: skip
"""The metrics that each process has. Their first label is `worker`, the process's slot."""

OF_THE_SERVER: Mapping[str, tuple[str, str]] = {
    "fairway_info": ("gauge", "The version; its value is 1."),
    "fairway_ready": ("gauge", "Whether as many processes serve as are wanted."),
    "fairway_uptime_seconds": ("gauge", "How long the server has run."),
    "fairway_workers": ("gauge", "Processes by state."),
    "fairway_workers_wanted": ("gauge", "How many processes are to serve."),
    "fairway_worker_restarts_total": ("counter", "Processes that ended unasked and were replaced."),
}
"""Kind and help of the metrics that a server has once."""

NAMES = frozenset([*OF_THE_SERVER, *(metric.name for metric in METRICS)])


def exposition(overview: Overview) -> str:
    """All metrics in the text format. A process without figures has no samples."""
    return "".join(f"{line}\n" for line in [*_of_the_server(overview), *_of_the_processes(overview)])


def _of_the_server(overview: Overview) -> Iterator[str]:
    states = [one.state for one in overview.processes]
    samples: dict[str, list[tuple[dict[str, str], float]]] = {
        "fairway_info": [({"version": overview.version}, 1)],
        "fairway_ready": [({}, int(overview.is_ready))],
        "fairway_uptime_seconds": [({}, round(overview.uptime, 3))],
        "fairway_workers": [({"state": state}, states.count(state)) for state in STATES],
        "fairway_workers_wanted": [({}, overview.wanted)],
        "fairway_worker_restarts_total": [({}, overview.restarts)],
    }
    for name, (kind, text) in OF_THE_SERVER.items():
        yield from _heading(name, kind, text)
        for labels, value in samples[name]:
            yield _sample(name, labels, value)


def _of_the_processes(overview: Overview) -> Iterator[str]:
    for metric in METRICS:
        samples = [
            _sample(metric.name, labels, value)
            for one in overview.processes
            if one.figures
            for labels, value in _values(metric, {"worker": str(one.slot)}, one.figures)
        ]
        if samples:
            yield from _heading(metric.name, metric.kind, metric.help)
            yield from samples


def _values(metric: Metric, labels: dict[str, str], figures: Figures) -> Iterator[tuple[dict[str, str], float]]:
    value = metric.value(figures)
    if isinstance(value, Mapping):
        for name, number in value.items():
            yield {**labels, metric.label: name}, number
    elif value is not None:
        yield labels, value


def _heading(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{pairs}}} {value}" if pairs else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
