"""beatserver: its command sends by the clock, runs a consumer of ours, and that one reaches sockets elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compat.packages.serving import REDIS_LABEL, MakeProject
from tests.services.redis import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("labels", [(), (REDIS_LABEL,)], ids=["channels_redis", "label"])
def test_the_clock_reaches_every_socket(make_project: MakeProject, redis: RedisServer, labels: tuple[Path, ...]):
    project = make_project("beats", labels=labels, REDIS_PORT=redis.port)
    with (
        project.served() as server,
        server.connect("/dance/") as ann,
        server.connect("/dance/") as ben,
        project.running("-m", "django", "beatserver") as beats,
    ):
        for socket in (ann, ben):
            assert {socket.receive() for _ in range(4)} == {"long", "short"}
        assert beats.process.poll() is None
