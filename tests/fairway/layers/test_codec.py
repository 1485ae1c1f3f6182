"""Messages as bytes: every type that arrives as it was, what does not, and what others may send us."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import enum
import struct
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import ormsgpack
import pytest
from django.db.models import TextChoices
from django.http import QueryDict
from django.utils.functional import lazystr
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from fairway.layers.codec import VERSION, Codec, Kind
from fairway.layers.errors import MessageTooLarge, Undecodable

codec = Codec(1024 * 1024)

UTC = datetime.UTC
MOMENT = datetime.datetime(2026, 11, 29, 1, 2, 3, 456789, tzinfo=datetime.timezone(datetime.timedelta(hours=-3.5)))


def str_of_type(value: Any) -> str:
    """A name of a test that is the same in every process."""
    return type(value).__name__


def sent(value: Any) -> Any:
    return codec.reopened({"type": "test", "value": value})["value"]


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -1, 2**63, -(2**63), 2**64, 2**200, -(2**63) - 1, 1.5, float("inf"), "", "ü\0😀", b"", b"\xff\0",
        [], [1, [2, [3]]], {}, {"a": {"b": 1}}, {1: "one", None: 0, 2.5: 0, b"k": 0},
        MOMENT, datetime.datetime(2026, 1, 1), datetime.datetime.now(UTC),
        datetime.date(1, 1, 1), datetime.time(23, 59, 1), datetime.time(1, tzinfo=UTC),
        datetime.timedelta(days=-3, seconds=5, microseconds=7), uuid.UUID(int=7),
        decimal.Decimal("1.10"), decimal.Decimal("-Infinity"), decimal.Decimal("1E+400"),
        set(), {1, "a"}, frozenset({1}), {frozenset({datetime.date(2026, 1, 1)})}, [{"when": MOMENT}],
    ],
    ids=str_of_type,
)  # fmt: skip
def test_it_arrives_as_it_was(value: Any) -> None:
    arrived = sent(value)

    assert arrived == value
    assert type(arrived) is type(value)


def test_a_decimal_that_is_no_number_arrives() -> None:
    assert sent(decimal.Decimal("NaN")).is_nan()


class Colour(TextChoices):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Plain(enum.Enum):
    ONE = "one"


class Named(float):
    pass


class Blob(bytes):
    pass


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, 2), [1, 2]),
        (Point(1, 2), [1, 2]),
        (mark_safe("<b>"), "<b>"),
        (gettext_lazy("yes"), "yes"),
        (lazystr("lazy"), "lazy"),
        (Colour.RED, "red"),
        (Number.ONE, 1),
        (Plain.ONE, "one"),
        (Named(1.5), 1.5),
        (Blob(b"x"), b"x"),
        (bytearray(b"x"), b"x"),
        (OrderedDict(a=1), {"a": 1}),
        (QueryDict("a=1&a=2"), {"a": ["1", "2"]}),
    ],
    ids=str_of_type,
)
def test_subclasses_arrive_as_what_they_derive_from(value: Any, expected: Any) -> None:
    arrived = sent(value)

    assert arrived == expected
    assert type(arrived) is type(expected)


@dataclass
class Record:
    number: int = 1


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (object(), r"^event\['value'\]: a object cannot be sent; send its pk, or the plain values that matter$"),
        (Record(), r"^event\['value'\]: a Record cannot be sent; "),
        ({"users": [1, {"me": Record()}]}, r"^event\['value'\]\['users'\]\[1\]\['me'\]: a Record cannot be sent; "),
        ({Record}, r"^event\['value'\]\[0\]: a type cannot be sent; "),
        ({"by": {2**64: 1}}, r"^event\['value'\]\['by'\]: a key of it cannot be sent; use text, or numbers "),
        (3j, r"^event\['value'\]: a complex cannot be sent; "),
        ("\ud800", r"^event\['value'\]: a text with lone surrogates cannot be sent; write it with errors='replace'$"),
    ],
)
def test_what_cannot_be_sent_is_named_with_its_place(value: Any, complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        sent(value)
    with pytest.raises(TypeError, match=complaint):
        codec.encode(Kind.DIRECT, ["specific.a!b", {"type": "test", "value": value}], "p.a")


def test_a_message_that_contains_itself_is_an_error() -> None:
    message: dict[str, Any] = {"type": "test"}
    message["self"] = message

    with pytest.raises(TypeError, match="cannot be sent"):
        codec.encode(Kind.EVENT, message, "g.a")


@pytest.mark.parametrize("level", [lambda inner: [inner], lambda inner: {"a": inner}])
def test_too_deep_a_message_is_named_as_that(level: Callable[[Any], Any]) -> None:
    value: Any = 1
    for _ in range(300):
        value = level(value)
    with pytest.raises(TypeError, match=r"^event: it cannot be sent, because it is nested too deeply"):
        sent(value)


@pytest.mark.parametrize("culprit", ["\ud800", object()])
def test_the_part_that_cannot_be_sent_is_not_sought_for_long(culprit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def packb(*args: Any, **kwargs: Any) -> bytes:
        nonlocal calls
        calls += 1
        return ormsgpack.packb(*args, **kwargs)

    monkeypatch.setattr("fairway.layers.codec.ormsgpack", SimpleNamespace(**{**vars(ormsgpack), "packb": packb}))
    with pytest.raises(TypeError, match="cannot be sent"):
        sent([*range(100_000), culprit])
    assert calls < 2000


def test_what_is_too_large_is_an_error_of_the_sender() -> None:
    small = Codec(100)
    small.encode(Kind.EVENT, {"type": "test", "text": "x" * 80}, "g.a")

    complaint = (
        r"^the message takes 1,0\d\d bytes, and a channel layer carries 100: .* raise max_message_size in its CONFIG$"
    )
    with pytest.raises(MessageTooLarge, match=complaint):
        small.encode(Kind.EVENT, {"type": "test", "text": "x" * 1000}, "g.a")


@pytest.mark.parametrize("kind", Kind)
def test_the_kind_arrives(kind: Kind) -> None:
    body: Any = {"type": "test"} if kind is Kind.EVENT else [1, "two", {"type": "three"}]

    assert codec.decode(codec.encode(kind, body, "g.a"), "g.a") == (kind, body)


def test_the_first_byte_says_the_version() -> None:
    assert codec.encode(Kind.EVENT, {}, "g.a")[0] >> 4 == VERSION == 1


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "^the message is of version 0, and this release of Fairway reads 1$"),
        (b"\x20\x80", "^the message is of version 2, and this release of Fairway reads 1$"),
        (b"\x1b\x80", "version 1"),
        (b"\x1f\x80", "^it is encrypted, and this process has no symmetric_encryption_keys$"),
        (b"\x10", "^the message cannot be read: "),
        (b"\x10\x93\x01", "cannot be read"),
        (b"\x10" + b"\x91" * 100_000, "cannot be read"),
        (b"\x10\xdf\xff\xff\xff\xff", "cannot be read"),
        (b"\x10\x01", "^the message is not an event$"),
        (b"\x10\x81\xa1a\xd4\x63\x00", "cannot be read"),  # an extension nobody knows
        (b"\x10\x81\xa1a\xd4\x01\x00", "cannot be read"),  # a datetime that is none
        (b"\x10\x81\xa1a\xd4\x08\x00", "cannot be read"),  # a set of something that is no list
        (b"\x10\x81\xa1a\xc7\x03\x08\x91\x91\x01", "cannot be read"),  # a set of lists
    ],
)
def test_what_is_no_message_is_undecodable(data: bytes, complaint: str) -> None:
    with pytest.raises(Undecodable, match=complaint):
        codec.decode(data, "g.a")


def of_sets(count: int, depth: int) -> bytes:
    """An event with so many sets within each other, each in lists that are so deep."""
    value = b"\x91" * depth + b"\x01"
    for _ in range(count):
        value = b"\x91" * depth + b"\xc9" + struct.pack("!IB", len(value), 9) + value
    return b"\x10\x81\xa1a" + value


@pytest.mark.parametrize(("count", "depth"), [(3, 1), (4, 1), (3, 1000), (40, 1000), (900, 1000)])
def test_sets_within_sets_do_not_exhaust_the_stack(count: int, depth: int) -> None:
    data = of_sets(count, depth)
    if (count, depth) == (3, 1):
        assert codec.decode(data, "g.a")[1] == {"a": [frozenset([frozenset([frozenset([1])])])]}
        return
    with pytest.raises(Undecodable, match="cannot be read"):
        codec.decode(data, "g.a")


def test_who_sends_sets_within_sets_is_told_where_it_ends() -> None:
    value: Any = 1
    for _ in range(3):
        value = frozenset([value])
    assert codec.reopened({"a": value}) == {"a": value}
    for _ in range(300):
        value = frozenset([value])
    with pytest.raises(TypeError, match="a frozenset cannot be sent"):
        codec.reopened({"a": value})


@given(st.binary(max_size=200))
def test_any_bytes_give_a_message_or_undecodable(data: bytes) -> None:
    for first in (b"", b"\x10", b"\x11"):
        with contextlib.suppress(Undecodable):
            codec.decode(first + data, "g.a")


leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.datetimes(timezones=st.none() | st.just(UTC)) | st.dates() | st.times() | st.timedeltas() | st.uuids()
    | st.decimals(allow_nan=False)
)  # fmt: skip
values = st.recursive(
    leaves | st.sets(leaves, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(-(2**63), 2**64 - 1), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values, max_size=4))
def test_whatever_is_sent_arrives(message: dict[str, Any]) -> None:
    assert codec.reopened(message) == message
