"""What pip made of our distributions and packages that require `channels`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import channels
from tests.compat.environment import REQUIREMENTS, Environment, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LOOK = """
import channels, fairway, importlib.metadata, importlib.util, json
print(json.dumps({
    "channels": channels.__file__,
    "fairway": fairway.__file__,
    "interface": channels.__version__,
    "label": importlib.metadata.version("channels"),
    "files": [str(path) for path in importlib.metadata.files("channels")],
    "daphne": importlib.util.find_spec("daphne") is not None,
}))
"""


@pytest.fixture
def seen(environment: Environment) -> dict:
    return json.loads(run([str(environment.python), "-I", "-c", LOOK]))


def test_no_requirement_is_broken(environment: Environment):
    assert environment.pip("check").strip() == "No broken requirements found."


def test_channels_is_ours(environment: Environment, seen: dict):
    (packages,) = environment.directory.glob("lib/python*/site-packages")

    assert Path(seen["channels"]) == packages / "channels" / "__init__.py"
    assert Path(seen["channels"]).read_bytes() == Path(channels.__file__).read_bytes()
    assert Path(seen["fairway"]) == packages / "fairway" / "__init__.py"
    assert seen["interface"] == channels.__version__
    assert seen["label"] == f"{channels.__version__}+fairway"
    assert [name for name in seen["files"] if name.endswith(".py")] == []


def test_no_other_server_came_along(seen: dict):
    assert seen["daphne"] is False


def test_what_was_asked_for_is_there(environment: Environment):
    installed = {line.lower().replace("_", "-") for line in environment.pip("list", "--format=freeze").splitlines()}
    pinned = [line for line in REQUIREMENTS.read_text().splitlines() if "==" in line]

    assert len(pinned) == 8
    for line in pinned:
        assert line.replace("[channels]", "") in installed
