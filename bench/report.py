"""The results as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from measurement import SATURATED
from memory import IDLE_CPU_TARGET, TARGETS
from ratios import quartiles

Document = dict[str, Any]
TARGET_HEADS = ("scenario", "figure", "median (quartiles)", "bound", "at least", "aim", "held", "decided by")


def markdown(document: Document) -> str:
    machine = document["versions"]
    parts = [
        f"# Benchmarks, {document['date']}",
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}. "
        f"{document['pairs']} pairs of {document['seconds']:g} s (more where a ratio is near what is asked); "
        f"the bound is {document['bound']}. "
        f"{document['minutes']:.0f} minutes in all.",
        document.get("note", ""),
        "## Targets",
        targets(document),
        "## Duels",
        "Medians. CPU is microseconds of the whole server process tree for each message received; writes are the "
        "segments with data that the server sent; stall is the longest that a bystander's echo took. `*`: the "
        "generator was the limit.",
        *(duel(one) for one in document["duels"]),
        "## Idle connections",
        memory(document),
        "## Survey",
        "One measurement each: rate a second, and CPU microseconds for each message (connection, answer).",
        survey(document),
        "## Versions",
        table(("what", "version"), sorted(document["versions"].items())),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def targets(document: Document) -> str:
    return table(TARGET_HEADS, duel_targets(document) + memory_targets(document))


def duel_targets(document: Document) -> list[tuple[str, ...]]:
    rows = []
    for one in document["duels"]:
        for verdict in one["verdicts"]:
            figure = f"{verdict['metric']} ÷ {one['labels'][verdict['peer']]}"
            rows.append((one["what"], figure, *reached(verdict)))
    return rows


def reached(verdict: dict[str, Any]) -> tuple[str, ...]:
    sign = "≥" if verdict["more_is_better"] else "≤"
    asked = (f"{sign} {verdict['least']:g}", f"{sign} {verdict['aim']:g}")
    if "median" not in verdict:
        return ("–", "–", *asked, "no", verdict["by"])
    word = "aim" if verdict["aim_reached"] and verdict["held"] else "yes" if verdict["held"] else "no"
    by = f"{verdict['by']} ({verdict['confidence']:.0%})"
    low, high = quartiles(verdict["ratios"])
    return (f"{verdict['median']:.2f} ({low:.2f} to {high:.2f})", f"{verdict['bound']:.2f}", *asked, word, by)


def memory_targets(document: Document) -> list[tuple[str, ...]]:
    rows = []
    for one in document["memory"]:
        if one["server"] != "ours":
            continue
        if "fault" in one:
            rows.append((f"idle, {one['what']}", "KB each", "–", "–", "", "", "no", one["fault"]))
            continue
        rows.append(absolute(f"idle memory, {one['what']}", "KB each", one["process_kb_each"], *TARGETS[one["kind"]]))
        if one["idle_cpu_us"] is not None:
            rows.append(absolute("idle CPU, 25 s pings", "µs each and second", one["idle_cpu_us"], *IDLE_CPU_TARGET))
    return rows


def absolute(what: str, unit: str, value: float, least: float, aim: float) -> tuple[str, ...]:
    word = "aim" if value <= aim else "yes" if value <= least else "no"
    return (what, unit, f"{value:.2f}", f"{value:.2f}", f"≤ {least:g}", f"≤ {aim:g}", word, "one run")


def all_held(document: Document) -> bool:
    verdicts = [verdict["held"] for one in document["duels"] for verdict in one["verdicts"]]
    return all(verdicts) and all(row[6] != "no" for row in memory_targets(document))


def duel(one: dict[str, Any]) -> str:
    open_loop = f", {one['open_rate']:,.0f} messages a second" if one["open_rate"] else ""
    rows = [
        (
            one["labels"].get(side, side),
            number(values["rate"]) + ("*" if not open_loop and values["generator_share"] >= SATURATED else ""),
            f"{values['cpu']:.2f}",
            shown(values, "p50", ".2f"),
            shown(values, "p99", ".2f"),
            shown(values, "writes_per_s", ",.0f"),
            shown(values, "writes_per_message", ".2f"),
            shown(values, "stall", ".1f"),
            f"{values['generator_share']:.0%}",
        )
        for side, values in one["medians"].items()
        if values
    ]
    heads = ("server", "rate/s", "CPU µs", "p50 ms", "p99 ms", "writes/s", "writes each", "stall ms", "generator")
    text = f"**{one['what']}**{open_loop}\n\n{table(heads, rows)}"
    if one["control"] and one["control"]["rate"]:
        text += f"\n\nA/A, ours to ours: {', '.join(noise(*item) for item in one['control'].items())}."
    return text + "".join(f"\n\nFault: {fault}" for fault in one["faults"])


def shown(values: dict[str, float], name: str, form: str) -> str:
    return format(values[name], form) if name in values else "–"


def noise(metric: str, values: list[float]) -> str:
    return f"{metric} {min(values):.2f} to {max(values):.2f} (median {statistics.median(values):.2f})"


def memory(document: Document) -> str:
    rows = []
    for one in document["memory"]:
        label = document["labels"][one["server"]]
        if "fault" in one:
            rows.append((label, one["what"], one["fault"], "", "", ""))
            continue
        idle = "–" if one["idle_cpu_us"] is None else f"{one['idle_cpu_us']:.2f}"
        pause = "–" if one["pause_ms"] is None else f"{one['pause_ms']:.0f} ms at {one['points'][-1]['connections']:,}"
        rows.append((label, one["what"], f"{one['process_kb_each']:.2f}", f"{one['kernel_kb_each']:.2f}", idle, pause))
    heads = ("server", "client", "KB each", "kernel KB each (both ends)", "CPU µs each and second", "full collection")
    return table(heads, rows) if rows else ""


def survey(document: Document) -> str:
    results = {name: row for name, row in document["survey"].items() if row}
    keys = [key for key in document["labels"] if any(key in row for row in results.values())]
    rows = [(name, *(cell(row.get(key)) for key in keys)) for name, row in results.items()]
    notes = [
        f"{document['labels'][key]}, {name}: {value['fault']}"
        for name, row in results.items()
        for key, value in row.items()
        if "fault" in value and "deflate" not in value["fault"]
    ]
    text = table(("scenario", *(document["labels"][key] for key in keys)), rows) if rows else ""
    return "\n\n".join([text, *notes])


def cell(result: dict[str, Any] | None) -> str:
    if result is None:
        return ""
    if "fault" in result:
        return "no deflate" if "deflate" in result["fault"] else "fault"
    star = "*" if result["generator_share"] >= SATURATED else ""
    return f"{number(result['rate'])}{star}, {result['cpu']:.1f} µs"


def number(value: float) -> str:
    return f"{value:,.0f}"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
