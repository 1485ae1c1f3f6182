"""What the tests of packages share: the example projects in the environment."""

from __future__ import annotations

import uuid

import pytest

from tests.compat.environment import Environment
from tests.compat.packages.serving import REDIS_LABEL, MakeProject, Project

WHOSE = """
import channels.layers, fairway.layers.redis
layer = channels.layers.get_channel_layer()
print(type(layer).__module__, isinstance(layer, fairway.layers.redis.RedisChannelLayer))
"""


@pytest.fixture(scope="session")
def make_project(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> MakeProject:
    """Name a project, and what its settings read from the environment; it has a database of its own."""

    def make(name: str, **variables: object) -> Project:
        return Project(environment, tmp_path_factory.mktemp(name) / "db.sqlite3", name, **variables)

    return make


@pytest.fixture(scope="session", params=["memory", "label"])
def make_layered(request: pytest.FixtureRequest, make_project: MakeProject) -> MakeProject:
    """The same, for each of two layers in turn: the one in memory, and ours over Redis by the name that channels_redis
    has for its own.
    """
    if request.param == "memory":
        return make_project
    redis = request.getfixturevalue("redis")

    def make(name: str, **variables: object) -> Project:
        place = {"LAYER_PORT": redis.port, "LAYER_PREFIX": uuid.uuid4().hex}
        project = make_project(name, labels=[REDIS_LABEL], **place, **variables)
        whose = project.run("-c", f"import django; django.setup(){WHOSE}").split()
        assert whose == ["channels_redis.core", "True"], "the label is not what is imported"
        return project

    return make
