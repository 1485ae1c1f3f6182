"""Several measurements put together: alternating rounds of a few servers (a duel), one of everybody (the survey)."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from measurement import SATURATED, Fault, Result, measure, settle
from ratios import judge, quartiles
from scenarios import FIXED_RATE, Scenario, Target
from servers import PLAIN_KINDS, SERVERS, Server, running

OURS, AGAIN = "ours", "ours again"
SHOWN = ("rate", "cpu", "p50", "p99", "writes_per_s", "writes_per_message", "generator_share", "stall")


def duel(scenario: Scenario, rivals: list[str], pairs: int, seconds: float) -> dict[str, Any]:
    """Measure ours and the rivals in turn, in fresh processes; every second round goes backwards."""
    sides = [OURS, *rivals, *([AGAIN] if scenario.control else [])]
    print(f"\n{scenario.name}: {scenario.what}", flush=True)
    rate = half_of_slower(scenario, [OURS, *rivals], seconds) if scenario.rate == "half" else scenario.rate
    rounds, faults = take_turns(sides, pairs, lambda side: fresh(side, scenario, seconds, rate), bool(rate))
    labels = {side: SERVERS[side].label_for(scenario.kind) for side in (OURS, *rivals)}
    targets = [target for target in scenario.targets if target.peer in rivals]
    return outcome(scenario.name, scenario.what, labels, rounds, faults, targets, scenario.control, rate)


def take_turns(
    sides: list[str], pairs: int, measure_side: Callable[[str], Result], is_open: bool = False
) -> tuple[list[dict[str, Result]], list[str]]:
    """Rounds of a measurement of each side, and what went wrong."""
    rounds, faults = [], []
    for number in range(pairs):
        one: dict[str, Result] = {}
        for side in sides if number % 2 == 0 else reversed(sides):
            try:
                one[side] = measure_side(side)
            except Fault as fault:
                faults.append(f"{side}: {fault}")
                print(f"  FAULT {faults[-1]}", flush=True)
            else:
                print(f"  {number + 1}/{pairs} {line(side, is_open, one[side])}", flush=True)
        rounds.append(one)
    return rounds, faults


def outcome(
    name: str,
    what: str,
    labels: dict[str, str],
    rounds: list[dict[str, Result]],
    faults: list[str],
    targets: list[Target],
    is_controlled: bool,
    rate: float | None = None,
) -> dict[str, Any]:
    """What the rounds say, as it goes into the results."""
    sides = list(dict.fromkeys(side for one in rounds for side in one))
    verdicts = [verdict(target, rounds, faults) for target in targets]
    for one_verdict in verdicts:
        print(f"  {say(one_verdict)}", flush=True)
    return {
        "scenario": name,
        "what": what,
        "labels": labels,
        "open_rate": rate,
        "rounds": rounds,
        "faults": faults,
        "medians": {side: medians(rounds, side) for side in sides},
        "verdicts": verdicts,
        "control": control(rounds) if is_controlled else None,
    }


def fresh(side: str, scenario: Scenario, seconds: float, rate: float | None) -> Result:
    server = SERVERS[OURS if side == AGAIN else side]
    with running(server, scenario.kind, database=scenario.database) as one:
        return measure(one, scenario, seconds, rate)


def half_of_slower(scenario: Scenario, sides: list[str], seconds: float) -> float:
    """In messages sent a second."""
    peaks = {side: fresh(side, scenario, seconds, None)["rate"] / scenario.members for side in sides}
    print(f"  peaks: {', '.join(f'{side} {peak:,.0f}/s' for side, peak in peaks.items())}", flush=True)
    return min(peaks.values()) / 2


def verdict(target: Target, rounds: list[dict[str, Result]], faults: list[str]) -> dict[str, Any]:
    """Whether the bound of the ratio holds. A rate that shows only the generator's limit gives way to the CPU."""
    both = [(one[OURS], one[target.peer]) for one in rounds if OURS in one and target.peer in one]
    if not both:
        return {
            "metric": target.metric,
            "peer": target.peer,
            "held": False,
            "by": "no pair was measured",
            **asked(target),
        }
    shares = [statistics.median(side["generator_share"] for side in sides) for sides in zip(*both, strict=True)]
    if target.metric == "rate" and max(shares) >= SATURATED:
        by, ratios = (
            "CPU per message: the generator was the limit",
            [theirs["cpu"] / ours["cpu"] for ours, theirs in both],
        )
    else:
        by, ratios = target.metric, [ours[target.metric] / max(theirs[target.metric], 1e-9) for ours, theirs in both]
    judged = judge(ratios, target.more_is_better)
    enough = judged.bound >= target.least if target.more_is_better else judged.bound <= target.least
    aimed = judged.bound >= target.aim if target.more_is_better else judged.bound <= target.aim
    ours_failed = any(fault.startswith(OURS) for fault in faults)
    return {
        "by": by,
        "ratios": ratios,
        "median": judged.median,
        "bound": judged.bound,
        "confidence": judged.confidence,
        "held": enough and not ours_failed,
        "aim_reached": aimed and not ours_failed,
        **asked(target),
    }


def asked(target: Target) -> dict[str, Any]:
    return {**asdict(target), "more_is_better": target.more_is_better}


def control(rounds: list[dict[str, Result]]) -> dict[str, Any]:
    """What ratios the noise alone makes: ours to ours."""
    both = [(one[OURS], one[AGAIN]) for one in rounds if OURS in one and AGAIN in one]
    metrics = [metric for metric in ("rate", "cpu", "p99") if all(a[metric] is not None for a, _ in both)]
    return {metric: [a[metric] / max(b[metric], 1e-9) for a, b in both] for metric in metrics}


def medians(rounds: list[dict[str, Result]], side: str) -> dict[str, float]:
    measured = [one[side] for one in rounds if side in one]
    found = {name: [one[name] for one in measured if one[name] is not None] for name in SHOWN}
    return {name: statistics.median(values) for name, values in found.items() if values}


def survey(servers: list[Server], scenarios: list[Scenario], seconds: float) -> dict[str, dict[str, Any]]:
    """Every scenario on every server that can do it, once: scenario → server → result, or {"fault": ...}."""
    table: dict[str, dict[str, Any]] = {scenario.name: {} for scenario in scenarios}
    for server in servers:
        able = [one for one in scenarios if one.kind in server.kinds and one.members <= server.most_members]
        for group in ([one for one in able if (one.kind in PLAIN_KINDS) == plain] for plain in (False, True)):
            if group:
                print(f"\n{server.label_for(group[0].kind)}", flush=True)
                survey_one(server, group, seconds, table)
    return table


def survey_one(server: Server, scenarios: list[Scenario], seconds: float, table: dict[str, dict[str, Any]]) -> None:
    """All in one process, a fresh one after a fault."""
    left = list(scenarios)
    while left:
        with running(server, left[0].kind) as one:
            while left:
                scenario = left.pop(0)
                rate = FIXED_RATE if scenario.rate == FIXED_RATE else None
                try:
                    result = measure(one, scenario, seconds, rate)
                except Fault as fault:
                    table[scenario.name][server.key] = {"fault": str(fault)}
                    print(f"  FAULT {scenario.name}: {fault}", flush=True)
                    break
                if scenario.deflate and not result["generator"]["deflate_agreed"]:
                    result = {"fault": "does not agree to permessage-deflate"}
                table[scenario.name][server.key] = result
                print(f"  {scenario.name:<28}{result.get('fault') or line('', bool(rate), result)}", flush=True)
                settle(one)


def line(side: str, is_open: bool, result: Result) -> str:
    saturated = "*" if not is_open and result["generator_share"] >= SATURATED else " "
    stall = f"  stall {result['stall']:.1f} ms" if result["stall"] is not None else ""
    latency = f"  p50 {result['p50']:.2f}  p99 {result['p99']:.2f} ms" if result["p50"] is not None else ""
    return f"{side:<12}{result['rate']:>10,.0f}/s{saturated}{result['cpu']:>9.2f} µs CPU{latency}{stall}"


def say(verdict: dict[str, Any]) -> str:
    if "median" not in verdict:
        return f"{verdict['metric']} against {verdict['peer']}: {verdict['by']}"
    word = "held" if verdict["held"] else "MISSED"
    low, high = quartiles(verdict["ratios"])
    return (
        f"{verdict['metric']} against {verdict['peer']}: {verdict['median']:.2f}, quartiles {low:.2f} to {high:.2f},"
        f" bound {verdict['bound']:.2f}"
        f" (at {'least' if verdict['more_is_better'] else 'most'} {verdict['least']:g}, aim {verdict['aim']:g}): {word}"
        + ("" if verdict["by"] == verdict["metric"] else f" by {verdict['by']}")
    )
