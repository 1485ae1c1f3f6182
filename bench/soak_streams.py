"""Twenty minutes of histories and presence on four workers. Is anything missed, does anything grow, is anybody left?

    python bench/soak_streams.py [--minutes 20] [--kill-every 60] [--rate 1] [--layers local redis] [--out NAME]
    python bench/soak_streams.py --minutes 2 --kill-every 15       # does everything run?

Over the local layer and over Redis, each with a server of its own, both at the same time. The load is in
`stream_clients.py`: a few hundred deliveries a second, people who come and go. Every minute, the connection of a worker
to the others is cut, and half a minute later a worker is killed by `kill -9`. Nothing that was kept may be missed, come
twice or out of order, and nobody may be told of a gap, as the service itself goes on. What is asked of memory, and of
what is left behind, is in `soaking.py`; at the end, nobody may be listed as present, and Redis may hold no entry.

Exits with 1 unless every check holds. Written to `results/soak-streams-DATE.json`. Needs the tests' packages.
"""

from __future__ import annotations

import asyncio
import sys
import time
from types import MappingProxyType

from soaking import Check, Soaked, main
from stream_clients import StreamSite, cut_a_link, load, present

GONE_WITHIN = 20.0
"""Seconds after which nobody may be listed: the layer's `lease` and `linger`, and time to spare."""

MAY_LEAVE = 0.01
"""Of those who have left, so many may have been away for a moment only: a worker may be short of time."""

ENTRIES = "fairway:[ehod]:*"
"""Redis: entries, who has them, and where."""


class Streams(Soaked):
    app = "soaked_app"
    site: StreamSite
    config = MappingProxyType({"history": {"stream.*": {"size": 2000, "seconds": 600}}})
    warm_up = 420.0  # until then, messages, and the keys of those that count once, add up

    @staticmethod
    def site_at(name: str, port: int, rate: float) -> StreamSite:
        return StreamSite(name, port, rate)

    async def load(self) -> None:
        await load(self.site)

    async def disturb(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 2)
        await cut_a_link(self.site)
        await super().disturb(seconds / 2)

    def own_checks(self) -> list[Check]:
        counts = dict(self.site.counts)
        wanted = ("deliveries", "caught up", "joined", "left", "people checked", "links cut", "cut by a kill")
        short = counts.get("left in a short absence", 0)
        return [
            Check("there was load of every kind", all(counts.get(one, 0) > 0 for one in wanted), counts),
            Check(
                "whoever is away for a moment has not left, as a rule",
                short <= MAY_LEAVE * counts.get("left", 0),
                f"{short} of {counts.get('left', 0)}",
            ),
        ]

    async def checks_at_the_end(self) -> list[Check]:
        deadline = time.monotonic() + GONE_WITHIN
        while (found := await present(self.site)) and time.monotonic() < deadline:  # noqa: ASYNC110  # nobody tells us
            await asyncio.sleep(0.5)
        checks = [Check("nobody is present when all have left", found == 0, found)]
        if self.redis is not None:
            with self.redis.client() as client:
                keys = client.keys(ENTRIES)
            checks.append(Check("no entry is left in Redis", not keys, keys[:20]))
        return checks


if __name__ == "__main__":
    sys.exit(main(Streams, __doc__, 20.0, "soak-streams"))
