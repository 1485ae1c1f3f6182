from __future__ import annotations

from fairway.layers.endings import Endings


def test_each_is_called_once_with_the_name_of_the_channel() -> None:
    endings, called = Endings(), list[str]()
    for _ in range(2):
        endings.add("one", called.append)
    endings.add("one", lambda channel: called.append(channel.upper()))
    endings.ended("other")
    endings.ended("one")
    endings.ended("one")

    assert called == ["one", "ONE"]
    assert len(endings) == 0
