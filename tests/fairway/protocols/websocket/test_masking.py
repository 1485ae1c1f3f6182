"""Both versions of unmasking are the definition of RFC 6455 section 5.3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.protocols.websocket import masking
from fairway.protocols.websocket.masking import apply_mask, apply_mask_pure

masks = st.binary(min_size=4, max_size=4)


def by_definition(data: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


@pytest.mark.parametrize("version", [apply_mask, apply_mask_pure])
def test_the_example_of_the_rfc_is_unmasked(version) -> None:
    assert version(bytes.fromhex("7f9f4d5158"), bytes.fromhex("37fa213d")) == b"Hello"


@given(st.binary(max_size=64), masks)
def test_both_versions_follow_the_definition(data: bytes, mask: bytes) -> None:
    assert apply_mask(data, mask) == apply_mask_pure(data, mask) == by_definition(data, mask)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 1022, 1023, 1024, 1025, 1026, 1027, 1028, 4099])
def test_both_versions_agree_around_the_change_of_method(length: int) -> None:
    data = bytes(index * 7 & 0xFF for index in range(length))
    mask = b"\x00\x80\xff\x13"
    assert apply_mask(data, mask) == apply_mask_pure(data, mask) == by_definition(data, mask)


@given(st.binary(max_size=40) | st.binary(min_size=1020, max_size=1030), masks)
def test_masking_twice_gives_the_data_back(data: bytes, mask: bytes) -> None:
    assert apply_mask_pure(apply_mask_pure(data, mask), mask) == data
    assert apply_mask(apply_mask(data, mask), mask) == data


def test_the_c_version_is_the_one_used_where_it_is_installed() -> None:
    speedups = pytest.importorskip("websockets.speedups")
    assert masking.has_c_version
    assert apply_mask is speedups.apply_mask
