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


def test_who_does_not_want_to_know_any_more_is_not_called() -> None:
    endings, called = Endings(), list[str]()
    endings.remove("one", called.append)
    endings.add("one", called.append)
    endings.add("one", print)
    endings.remove("one", print)
    endings.ended("one")
    endings.add("two", called.append)
    endings.remove("two", called.append)

    assert (called, len(endings)) == (["one"], 0)
