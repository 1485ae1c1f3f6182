"""Half an hour of mixed load on four workers, one of which is killed every minute. Does anything grow, or get lost?

    python bench/soak_workers.py [--minutes 30] [--kill-every 60] [--rate 1] [--layers local redis] [--out NAME]
    python bench/soak_workers.py --minutes 1 --kill-every 10       # does everything run?

Over the local layer and over Redis, each with a server of its own, both at the same time. The load is in
`soak_clients.py`: rooms whose messages are numbered, echoes, requests, clients that come and go. A worker is killed by
`kill -9`. What is asked of memory, and of what is left behind, is in `soaking.py`.

Exits with 1 unless every check holds. Written to `results/soak-workers-DATE.json`. Needs the tests' packages.
"""

from __future__ import annotations

import sys

from soak_clients import MixedSite, load
from soaking import Check, Soaked, main


class MixedLoad(Soaked):
    app = "soaked_app"
    site: MixedSite

    @staticmethod
    def site_at(name: str, port: int, rate: float) -> MixedSite:
        return MixedSite(name, port, rate)

    async def load(self) -> None:
        await load(self.site)

    def own_checks(self) -> list[Check]:
        counts = dict(self.site.counts)
        is_loaded = counts.get("deliveries", 0) > 0 and counts.get("requests", 0) > 0
        return [Check("there was load", is_loaded, counts)]


if __name__ == "__main__":
    sys.exit(main(MixedLoad, __doc__, 30.0, "soak-workers"))
