"""A channel layer that carries messages between processes as files, which it keeps until they are read."""

import asyncio
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

from channels.layers import BaseChannelLayer


class DirectoryChannelLayer(BaseChannelLayer):
    def __init__(self, directory: str) -> None:
        super().__init__()
        self.directory = Path(directory)
        self.count = itertools.count()

    def waiting(self, channel: str) -> list[Path]:
        """The messages of a channel that nobody has read, oldest first."""
        return sorted((self.directory / channel).glob("*.json"))

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        folder = self.directory / channel
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns():020}-{os.getpid()}-{next(self.count):06}"
        # Whole or not at all: a name that ends in .json is a complete message.
        (folder / name).write_text(json.dumps(message))
        (folder / name).rename(folder / f"{name}.json")

    async def receive(self, channel: str) -> dict[str, Any]:
        self.require_valid_channel_name(channel, receive=True)
        while True:
            for path in self.waiting(channel):
                message: dict[str, Any] = json.loads(path.read_text())
                path.unlink()
                return message
            await asyncio.sleep(0.02)

    async def new_channel(self) -> str:
        return f"specific.{os.getpid()}.{next(self.count)}"
