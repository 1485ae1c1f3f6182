"""What the tests of packages share: the example projects in the environment."""

from __future__ import annotations

import pytest

from tests.compat.environment import Environment
from tests.compat.packages.serving import MakeProject, Project


@pytest.fixture(scope="session")
def make_project(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> MakeProject:
    """Name a project, and what its settings read from the environment; it has a database of its own."""

    def make(name: str, **variables: object) -> Project:
        return Project(environment, tmp_path_factory.mktemp(name) / "db.sqlite3", name, **variables)

    return make
