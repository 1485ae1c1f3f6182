"""Draw a result file. Runs in an environment of its own, with matplotlib: plots.py RESULTS.json PLOT.png"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

OURS, OTHER = "#c2410c", "#64748b"
STUCK_PHASES = {
    "without": ("without", OTHER),
    "stuck": ("with a stuck reader", OURS),
    "again": ("without, again", "#94a3b8"),
}
SURVEYED = ("echo-40-ascii-w1", "echo-40-ascii-w8", "room-1000-w1", "hall-1000-w4", "connect", "hello")


def main(source: Path, target: Path) -> None:
    document = json.loads(source.read_text())
    drawings = [draw for draw in (ratios, memory, stuck_latency, stuck_memory) if draw(document, None)]
    surveyed = [name for name in SURVEYED if measured(document, name)]
    panels = len(drawings) + len(surveyed)
    if not panels:
        return
    rows = (panels + 1) // 2
    figure, axes = plt.subplots(rows, 2, figsize=(16, 5 * rows), squeeze=False)
    flat = list(axes.flat)
    for draw in drawings:
        draw(document, flat.pop(0))
    for name in surveyed:
        survey(document, name, flat.pop(0))
    for empty in flat:
        empty.axis("off")
    figure.suptitle(f"{document['date']}, {document['versions']['processor']}")
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.4 / (5 * rows)))
    figure.savefig(target, dpi=110)


def ratios(document: dict[str, Any], axes: Any) -> bool:
    """Every pair's ratio as a point, on the side of 1 where it is good; the target as a bar."""
    verdicts = [
        (one, verdict) for one in document.get("duels", []) for verdict in one["verdicts"] if verdict.get("ratios")
    ]
    if axes is None or not verdicts:
        return bool(verdicts)
    for place, (_, verdict) in enumerate(verdicts):
        turned = [value if verdict["more_is_better"] else 1 / value for value in verdict["ratios"]]
        least, aim = (value if verdict["more_is_better"] else 1 / value for value in (verdict["least"], verdict["aim"]))
        axes.plot(turned, [place] * len(turned), "o", color=OURS, alpha=0.6)
        axes.plot([least], [place], "|", color="black", markersize=18)
        axes.plot([aim], [place], "|", color="green", markersize=18)
    names = [f"{one['scenario']}: {verdict['metric']} vs {verdict['peer']}" for one, verdict in verdicts]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_title("Ratios to the peer, more is better (black: at least, green: aim)")
    return True


def memory(document: dict[str, Any], axes: Any) -> bool:
    sound = (one for one in document.get("memory", []) if "fault" not in one)
    results = sorted(sound, key=lambda one: one["process_kb_each"])
    if axes is None or not results:
        return bool(results)
    names = [f"{document['labels'][one['server']]}, {one['what']}" for one in results]
    values = [one["process_kb_each"] for one in results]
    bars(axes, names, values, [one["server"] == "ours" for one in results], [f"{value:.1f}" for value in values])
    axes.set_title("KB for each idle connection (process)")
    return True


def stuck_latency(document: dict[str, Any], axes: Any) -> bool:
    return rounds(document, "p99", "p99 of the others, ms", axes)


def stuck_memory(document: dict[str, Any], axes: Any) -> bool:
    title = "Growth of the server's memory under the load, KB (dashed: the bound)"
    return rounds(document, "growth_kb", title, axes, document.get("most_kb"))


def rounds(document: dict[str, Any], name: str, title: str, axes: Any, more_at_most: float | None = None) -> bool:
    """Every round as a point for each of its phases, the medians as lines."""
    results = document.get("stuck", [])
    if axes is None or not results:
        return bool(results)
    medians = {phase: statistics.median(one[phase][name] for one in results) for phase in STUCK_PHASES}
    numbers = range(1, len(results) + 1)
    for phase, (label, color) in STUCK_PHASES.items():
        axes.plot(numbers, [one[phase][name] for one in results], "o", color=color, alpha=0.7, label=label)
        axes.axhline(medians[phase], color=color, alpha=0.5)
    if more_at_most is not None:
        axes.axhline(medians["without"] + more_at_most, color="black", linestyle="--")
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    axes.set_xticks(numbers)
    axes.set_xlabel("round")
    axes.set_title(title)
    axes.legend()
    return True


def measured(document: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: one for key, one in document.get("survey", {}).get(name, {}).items() if "fault" not in one}


def survey(document: dict[str, Any], name: str, axes: Any) -> None:
    results = sorted(measured(document, name).items(), key=lambda item: -item[1]["rate"])
    names = [document["labels"][key] for key, _ in results]
    if name == "hello":
        names = [one.removeprefix("channels + ") for one in names]
    texts = [f"{one['rate']:,.0f}, {one['cpu']:.1f} µs" for _, one in results]
    bars(axes, names, [one["rate"] for _, one in results], [key == "ours" for key, _ in results], texts)
    axes.set_title(f"{name}: a second, and CPU for each")


def bars(axes: Any, names: list[str], values: list[float], ours: list[bool], texts: list[str]) -> None:
    drawn = axes.barh(names, values, color=[OURS if own else OTHER for own in ours])
    axes.bar_label(drawn, texts, padding=3)
    axes.margins(x=0.3)
    axes.invert_yaxis()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
