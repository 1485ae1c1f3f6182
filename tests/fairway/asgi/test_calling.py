"""Scopes that share a table of keys. What enters what is tested in `tests/channels/test_middleware.py`."""

from __future__ import annotations

import platform
import sys
from collections import UserDict

import pytest

from fairway.asgi.calling import copy_of, template

NAMES = [f"name{number}" for number in range(12)]

only_cpython = pytest.mark.skipif(
    platform.python_version_tuple()[:2] != ("3", "11"), reason="the sizes are those of CPython 3.11"
)


def test_copies_of_a_template_are_dicts_of_their_own() -> None:
    shape = template(dict.fromkeys(NAMES), room=2)
    first, second = shape.copy(), shape.copy()

    first["name0"], first["more"] = 1, 2
    del second["name1"]

    assert type(first) is dict
    assert list(first) == [*NAMES, "more"]
    assert (first["name0"], second["name0"], shape["name0"]) == (1, None, None)
    assert ("more" in second, "name1" in second, "name1" in first) == (False, False, True)


@only_cpython
def test_copies_stay_small_with_as_many_names_as_there_is_room_for() -> None:
    copies = [template(dict.fromkeys(NAMES), room=4).copy()]
    copies += [copies[0].copy() for _ in range(100)]
    for one in copies:
        for name in "abcd":
            one[name] = name
    ordinary = dict(copies[0])

    assert {sys.getsizeof(one) for one in copies} == {sys.getsizeof(copy_of(copies[0]))}
    assert sys.getsizeof(copies[0]) * 2 < sys.getsizeof(ordinary)
    assert copies[0] == ordinary


def test_a_dict_with_more_names_than_there_is_room_for_is_still_right() -> None:
    one = template({"a": 1}, room=1).copy()
    one.update(dict.fromkeys(NAMES, 2))

    assert one == {"a": 1, **dict.fromkeys(NAMES, 2)}


def test_a_copy_of_a_scope_that_is_no_dict_is_one() -> None:
    scope = UserDict(path="/")

    copy = copy_of(scope)

    assert type(copy) is dict
    assert copy == {"path": "/"}
