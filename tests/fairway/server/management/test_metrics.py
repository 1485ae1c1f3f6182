"""What Prometheus is given, read by its own parser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from fairway import __version__
from fairway.server.context import Counters
from fairway.server.management.metrics import METRICS, NAMES, OF_THE_SERVER, exposition
from fairway.server.management.overview import Overview, ProcessView

ROOT = Path(__file__).resolve().parents[4]

FIGURES: dict[str, Any] = {
    "connections": {"http1": 1, "http2": 0, "websocket": 5, "arriving": 0},
    "connections_limit": 900,
    "tasks": 6,
    "delivered": 40,
    "received_bytes": {"http1": 700, "http2": 30},
    "sent_bytes": {"http1": 5000, "http2": 60},
    "waiting": {"messages": 3, "most_messages": 2, "bytes": 900, "most_bytes": 800},
    "counters": {
        "server": {
            "address_refusals": 0, "connections": 9,
            "dropped_frames": 1, "errors": 0, "faults": 2, "memory_drops": 0, "messages_received": 7,
            "rate_excesses": 0, "refused": 0, "requests": 4, "responses_2xx": 3, "responses_none": 1,
            "slow_consumers": 0, "slow_senders": 0, "websockets": 5,
        },
        "layers": {"groups": 2, "memberships": 5, "dropped_messages": 0},
        "backplane": {"published": 3, "received": 4, "outages": 1},
        "delivery": {"detours": 0},
        "rooms": {
            "dropped_messages": 0, "failed_messages": 0, "failures": 1, "missed_ticks": 6, "running": 2, "ticks": 8,
            "unpublished": 0,
        },
    },
    "up": {'channel layer "Own\\Layer\n"': True},
    "unused": [],
    "lag": {'channel layer "Own\\Layer\n"': 0.75},
    "loop_lag": 0.25,
    "loop_late": 1.5,
    "resident": 30_000_000,
    "cpu": 0.5,
}  # fmt: skip


def process(slot: int, state: str = "ready", figures: dict[str, Any] = FIGURES) -> ProcessView:
    return ProcessView(slot, 100 + slot, state, 1, 3.0, 0.1, figures)


def samples(overview: Overview) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(exposition(overview)):
        for one in family.samples:
            found.setdefault(one.name, []).append((one.labels, one.value))
    return found


def test_every_metric_is_there_for_every_process() -> None:
    overview = Overview(wanted=2, restarts=3, uptime=60.5, processes=(process(0), process(3)))
    found = samples(overview)
    assert found.keys() == NAMES
    assert found["fairway_info"] == [({"version": __version__}, 1)]
    assert found["fairway_ready"] == [({}, 1)]
    assert found["fairway_worker_restarts_total"] == [({}, 3)]
    assert found["fairway_requests_total"] == [({"worker": "0"}, 4), ({"worker": "3"}, 4)]
    assert ({"worker": "3", "kind": "websocket"}, 5) in found["fairway_connections"]
    assert ({"worker": "0", "class": "2xx"}, 3) in found["fairway_responses_total"]
    assert ({"worker": "0", "class": "none"}, 1) in found["fairway_responses_total"]
    assert ({"worker": "3", "over": "http2"}, 30) in found["fairway_received_bytes_total"]
    assert ({"worker": "0", "over": "http1"}, 5000) in found["fairway_sent_bytes_total"]
    assert found["fairway_inbox_messages_largest"][0] == ({"worker": "0"}, 2)
    assert found["fairway_outbox_bytes"][1] == ({"worker": "3"}, 900)
    assert found["fairway_layer_up"][0] == ({"worker": "0", "layer": '"Own\\Layer\n"'}, 1)
    assert found["fairway_layer_lag_seconds"][0] == ({"worker": "0", "layer": '"Own\\Layer\n"'}, 0.75)
    assert found["fairway_rooms"][1] == ({"worker": "3"}, 2)
    assert found["fairway_room_missed_ticks_total"][0] == ({"worker": "0"}, 6)


def test_a_process_that_has_told_nothing_yet_counts_only_as_a_process() -> None:
    found = samples(Overview(wanted=1, processes=(process(0, "starting", {}),)))
    assert found["fairway_workers"] == [({"state": "starting"}, 1), ({"state": "ready"}, 0), ({"state": "leaving"}, 0)]
    assert found["fairway_ready"] == [({}, 0)]
    assert found.keys() == OF_THE_SERVER.keys()


def test_a_process_without_a_layer_has_no_metrics_of_one() -> None:
    figures = {**FIGURES, "counters": {"server": FIGURES["counters"]["server"]}, "up": {}, "lag": {}}
    found = samples(Overview(wanted=1, processes=(process(0, figures=figures),)))
    assert not [name for name in found if name.startswith(("fairway_layer", "fairway_room"))]


def test_counters_and_only_they_are_totals() -> None:
    kinds = {metric.name: metric.kind for metric in METRICS} | {name: kind for name, (kind, _) in OF_THE_SERVER.items()}
    assert {name for name, kind in kinds.items() if kind == "counter"} == {
        name for name in kinds if name.endswith("_total")
    }


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    dashboard = json.loads((ROOT / "docs/howto/grafana-dashboard.json").read_text("utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    asked = {name for query in queries for name in re.findall(r"fairway_\w+", query)}
    assert len(queries) >= 10
    assert asked - NAMES == set()
    assert {"fairway_layer_up", "fairway_layer_lag_seconds"} <= asked
    for query in queries:  # a rate of what may fall, or a level of what only grows, says nothing
        for name in re.findall(r"fairway_\w+_total", query):
            assert re.search(rf"(rate|increase)\(\s*{name}", query), query
        for name in re.findall(r"(?:rate|increase)\(\s*(fairway_\w+)", query):
            assert name.endswith("_total"), query


def test_whatever_a_server_counts_is_among_them():
    """Under its own name, apart from responses, which have a label."""
    names = {"connections": "accepted_connections", "errors": "application_errors"}
    counted = {names.get(name, name) for name in Counters.__slots__}
    assert {f"fairway_{name}_total" for name in counted} <= NAMES
