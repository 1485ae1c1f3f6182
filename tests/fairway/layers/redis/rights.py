"""The least rights of a user of Redis, as the pages show them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tests.services.redis import RedisServer

ROOT = Path(__file__).resolve().parents[4]
PAGES = [ROOT / "docs" / "howto" / f"choose-a-layer{language}.md" for language in ("", ".zh-CN")]


class Rights(NamedTuple):
    """The lines of the command, for one prefix and database 0."""

    messages: list[str]
    histories: list[str]
    presence: list[str]

    @property
    def all(self) -> list[str]:
        return [right for part in self for right in part]


def documented(prefix: str) -> Rights:
    """Those that both pages show. The last two lines are for histories and for presence."""
    found = [
        re.search(r"^ACL SETUSER mysite on >PASSWORD (.*?)\n```", page.read_text("utf-8"), re.M | re.S)
        for page in PAGES
    ]
    rights = {match[1].replace("mysite", prefix) for match in found if match is not None}
    assert None not in found
    assert len(rights) == 1, "both pages show the same"
    *messages, histories, presence = rights.pop().splitlines()
    assert "~" in histories
    assert "~" in presence
    return Rights(" ".join(messages).split(), histories.split(), presence.split())


def user(server: RedisServer, name: str, rights: list[str]) -> str:
    """Make a user with these rights, and return the URL with which it logs in."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", name, "reset", "on", ">secret", *rights)
    return f"redis://{name}:secret@{server.host}:{server.port}"
