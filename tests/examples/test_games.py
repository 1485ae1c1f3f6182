"""The games of the page about games, and one that was made by that page, pass their own tests."""

from __future__ import annotations

import sys
import unittest
from collections.abc import Iterator

import pytest
from tests.docs.pages import ROOT

from channels.layers import InMemoryChannelLayer, channel_layers


@pytest.fixture(autouse=True)
def examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [str(ROOT / "examples"), *sys.path])
    previous = channel_layers.set("default", InMemoryChannelLayer())
    yield
    channel_layers.set("default", previous)


@pytest.mark.parametrize("name", ["tug", "quiz", "four"])
def test_its_own_tests_pass(name: str) -> None:
    suite = unittest.TestLoader().loadTestsFromName(f"{name}.tests")
    assert suite.countTestCases() >= 4
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    assert result.wasSuccessful()
