"""Which groups have a history: the option `history` of our layers. Pure.

    "CONFIG": {"history": {"chat.*": {"size": 100, "seconds": 300}, "board.*": {"size": 1}}}

The keys are globs of group names, and the first one that matches counts. All processes that share a layer should have
the same rules.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

from fairway.layers.backplane import Keep
from fairway.layers.errors import InvalidChannelLayerError

SIZE, SECONDS = 100, 300.0
"""What is kept where a rule does not say."""

MOST_SIZE = 100_000
LONGEST = 366 * 86400.0
LONGEST_KEY = 200

_REMEMBERED = 10_000


HistoryOption: TypeAlias = Mapping[str, Mapping[str, Any]] | None


class HistoryRules:
    """Raises `InvalidChannelLayerError` if the option is not valid. `keep_of` returns what a group's history holds."""

    def __init__(self, by_glob: Mapping[str, Mapping[str, Any]]) -> None:
        rules = [(re.compile(fnmatch.translate(glob)), _keep(glob, rule)) for glob, rule in by_glob.items()]

        @lru_cache(_REMEMBERED)
        def keep_of(group: str) -> Keep | None:
            return next((keep for pattern, keep in rules if pattern.match(group)), None)

        self.keep_of = keep_of
        """What is kept of a group's messages. None if the group has no history."""


def to_keep(rules: HistoryRules | None, group: str, keep: bool | None, key: str = "") -> Keep | None:
    """What is kept of a message that is sent with these arguments. None if it is not kept.

    Raises ValueError if it is to be kept, or sent once for its key, and the group has no history.
    """
    if len(key) > LONGEST_KEY:
        raise ValueError(f"a key has at most {LONGEST_KEY} characters")
    if keep is False:
        if key:
            raise ValueError("a message with a key has to be kept: leave out keep=False")
        return None
    found = None if rules is None else rules.keep_of(group)
    if found is None and (keep or key):
        raise ValueError(no_history(group))
    return found


def no_history(group: str) -> str:
    """The sentence about a group without a history."""
    return f"the group {group} has no history: name it in `history` (CHANNEL_LAYERS, CONFIG)"


def history_rules(by_glob: HistoryOption) -> HistoryRules | None:
    """The rules, if there are any."""
    return HistoryRules(by_glob) if by_glob else None


def _keep(glob: str, rule: Mapping[str, Any]) -> Keep:
    place = f"history[{glob!r}]"
    if not isinstance(rule, Mapping):
        raise _invalid(f"{place} is {rule!r}: write a dictionary with size and seconds")
    unknown = rule.keys() - {"size", "seconds"}
    if unknown:
        raise _invalid(f"{place} has {', '.join(sorted(map(repr, unknown)))}: it takes size and seconds")
    size, seconds = rule.get("size", SIZE), rule.get("seconds", SECONDS)
    if type(size) is not int or not 1 <= size <= MOST_SIZE:
        raise _invalid(f"{place}: size is {size!r}, and has to be a number from 1 to {MOST_SIZE:,}")
    if type(seconds) not in (int, float) or not 0 < seconds <= LONGEST:
        raise _invalid(f"{place}: seconds is {seconds!r}, and has to be a number from 1 to {LONGEST:,.0f}")
    return Keep(size, float(seconds))


def _invalid(sentence: str) -> InvalidChannelLayerError:
    return InvalidChannelLayerError(f"{sentence} (CHANNEL_LAYERS, CONFIG)")
