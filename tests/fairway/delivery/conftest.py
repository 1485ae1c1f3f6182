from __future__ import annotations

import asyncio

import pytest
from tests.fairway.delivery.doubles import FakeSource

from fairway.delivery import Inbox


@pytest.fixture
async def inbox():
    return Inbox(asyncio.get_running_loop(), FakeSource(), max_messages=8, max_size=2000)
