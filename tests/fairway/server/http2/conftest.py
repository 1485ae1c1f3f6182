"""Connections that are closed at the end of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.fairway.server.http2.line import Line

Connect = Callable[..., Line]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    lines: list[Line] = []

    def connecting(app: Any, *arguments: Any, **options: Any) -> Line:
        lines.append(Line(app, *arguments, **options))
        return lines[-1]

    yield connecting
    for line in lines:
        await line.close()
