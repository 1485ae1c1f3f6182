"""What the tests of others' packages and servers share: the environment that these are in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.compat.environment import Environment, compat_environment


@pytest.fixture(scope="session")
def environment() -> Iterator[Environment]:
    with compat_environment() as made:
        yield made
