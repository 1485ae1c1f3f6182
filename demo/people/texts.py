"""What people write."""

from __future__ import annotations


def is_whole(text: str) -> bool:
    """JSON can have half a character, which no database stores."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
