"""The layer for changing over from channels_redis, beside channels_redis itself on a real Redis."""

from __future__ import annotations

import pytest

from tests.compat.environment import Environment
from tests.compat.packages.serving import PROJECTS
from tests.examples.running import command
from tests.services.redis import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("layer", ["core.RedisChannelLayer", "pubsub.RedisPubSubChannelLayer"])
def test_everybody_hears_everybody_once(environment: Environment, redis: RedisServer, layer: str):
    script = str(PROJECTS / "forwarding_check.py")
    command([str(environment.python), script, str(redis.port), f"channels_redis.{layer}"], PROJECTS)
