"""Encrypted messages: who reads what, what of a forged one becomes, and how long a salt is used."""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.layers import encryption as module
from fairway.layers.encryption import MARK, MOST_SENDERS, Encryption
from fairway.layers.errors import InvalidChannelLayerError, Undecodable

NOT_OURS = "^it is encrypted with a key that symmetric_encryption_keys does not have, was for another place, or is not "


def counting(begin: int = 0) -> Any:
    """Bytes that are all different, instead of random ones."""
    numbers = itertools.count(begin)
    return lambda count: next(numbers).to_bytes(count, "big")


def salt_of(data: bytes) -> bytes:
    return data[1:17]


def test_it_is_read_by_whoever_has_the_key() -> None:
    sender, receiver = Encryption(["key"]), Encryption([b"key"])
    sealed = sender.seal(b"hello", "g.room")

    assert sealed.startswith(MARK)
    assert b"hello" not in sealed
    assert len(sealed) == len(b"hello") + 45
    assert receiver.open(sealed, "g.room") == b"hello"
    assert sender.seal(b"hello", "g.room") != sealed


@pytest.mark.parametrize("place", ["g.hall", "p.room", "queue room", ""])
def test_a_copy_for_another_place_is_not_read(place: str) -> None:
    both = Encryption(["key"])
    with pytest.raises(Undecodable, match=NOT_OURS):
        both.open(both.seal(b"hello", "g.room"), place)


@pytest.mark.parametrize(
    ("one", "other"), [(("a", "g.b"), ("b", "g.b")), (("a", "b c"), ("a b", "c")), (("", "1 a"), ("1", "a"))]
)
def test_a_copy_for_another_context_is_not_read(one: tuple[str, str], other: tuple[str, str]) -> None:
    sealed = Encryption(["key"], one[0]).seal(b"hello", one[1])
    with pytest.raises(Undecodable, match=NOT_OURS):
        Encryption(["key"], other[0]).open(sealed, other[1])


def test_keys_are_changed_without_losing_a_message() -> None:
    """Add the new key last, everywhere; move it to the front, everywhere; take the old one away."""
    steps = [["old"], ["old", "new"], ["new", "old"], ["new"]]
    for before, after in itertools.pairwise(steps):
        one, two = Encryption(before), Encryption(after)
        assert two.open(one.seal(b"a", "g.room"), "g.room") == b"a"
        assert one.open(two.seal(b"b", "g.room"), "g.room") == b"b"
    with pytest.raises(Undecodable, match=NOT_OURS):
        Encryption(["new"]).open(Encryption(["old"]).seal(b"a", "g.room"), "g.room")


def test_what_is_not_encrypted_is_not_read() -> None:
    for data in (b"", b"\x10\x80", b"hello"):
        with pytest.raises(Undecodable, match=r"^it is not encrypted, and whoever has no key could have sent it$"):
            Encryption(["key"]).open(data, "g.room")


def test_every_part_is_needed_and_every_bit_counts() -> None:
    both = Encryption(["key"])
    sealed = both.seal(b"hello", "g.room")
    for known in (False, True):  # with the sender's subkey to be made, and with the one that is kept
        for end in range(1, len(sealed)):
            with pytest.raises(Undecodable, match=r"too short|is not genuine"):
                both.open(sealed[:end], "g.room")
        for index in range(1, len(sealed)):
            changed = bytes(byte ^ (at == index) for at, byte in enumerate(sealed))
            with pytest.raises(Undecodable, match=NOT_OURS):
                both.open(changed, "g.room")
        with pytest.raises(Undecodable, match=NOT_OURS):
            both.open(sealed + b"\0", "g.room")
        if not known:
            assert both.open(sealed, "g.room") == b"hello"


@given(st.binary(max_size=100))
def test_whatever_others_send_is_undecodable(data: bytes) -> None:
    both = Encryption(["key"])
    for forged in (data, MARK + data):
        with pytest.raises(Undecodable):
            both.open(forged, "g.room")


@given(st.binary(), st.text(), st.text())
def test_whatever_is_sealed_is_opened(data: bytes, context: str, place: str) -> None:
    assert Encryption(["key"], context).open(Encryption(["key"], context).seal(data, place), place) == data


def test_who_has_sent_what_cannot_be_read_is_known_by_the_salt() -> None:
    sealed = Encryption(["other"]).seal(b"hello", "g.room")
    with pytest.raises(Undecodable) as caught:
        Encryption(["key"]).open(sealed, "g.room")
    assert caught.value.sender == salt_of(sealed).hex()


def test_each_process_has_a_salt_and_changes_it_before_the_nonces_could_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_MESSAGES", 3)
    sender, receiver = Encryption(["key"], random=counting()), Encryption(["key"], random=counting(1000))
    sealed = [sender.seal(b"%d" % number, "g.room") for number in range(9)]

    salts = list(map(salt_of, sealed))
    assert [salts.count(salt) for salt in dict.fromkeys(salts)] == [3, 3, 3]
    assert len({data[1:29] for data in sealed}) == 9, "no salt and nonce are used twice"
    assert [receiver.open(data, "g.room") for data in sealed] == [b"%d" % number for number in range(9)]
    assert salt_of(receiver.seal(b"", "g.room")) not in salts


@pytest.mark.parametrize("fork", [os.fork, ctypes.PyDLL(None).fork], ids=["fork", "fork without Python's hooks"])
def test_a_forked_child_has_a_salt_of_its_own(fork: Callable[[], int]) -> None:
    both = Encryption(["key"])
    mine = salt_of(both.seal(b"", "g.room"))
    reading, writing = os.pipe()
    child = fork()
    if not child:
        os.write(writing, both.seal(b"from the child", "g.room"))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    sealed = os.read(reading, 1000)
    os.close(reading)
    os.close(writing)
    assert salt_of(sealed) != mine
    assert salt_of(both.seal(b"", "g.room")) == mine
    assert both.open(sealed, "g.room") == b"from the child"


def test_the_senders_that_are_remembered_are_bounded_and_forgeries_displace_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[bytes] = []
    subkey = module._subkey
    monkeypatch.setattr(module, "_subkey", lambda key, salt: made.append(salt) or subkey(key, salt))
    receiver, friend = Encryption(["key"]), Encryption(["key"])
    receiver.open(friend.seal(b"", "g.room"), "g.room")
    for number in range(MOST_SENDERS + 10):
        with pytest.raises(Undecodable):
            receiver.open(MARK + number.to_bytes(16, "big") + bytes(40), "g.room")
    made.clear()
    receiver.open(friend.seal(b"", "g.room"), "g.room")
    assert made == []

    for _ in range(MOST_SENDERS):
        receiver.open(Encryption(["key"]).seal(b"", "g.room"), "g.room")
    made.clear()
    receiver.open(friend.seal(b"", "g.room"), "g.room")
    assert len(made) == 1, "it was forgotten, and is read all the same"


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ("key", "^CHANNEL_LAYERS, CONFIG: symmetric_encryption_keys is a list of keys: the first encrypts, all decryp"),
        (b"key", "is a list of keys"),
        (7, "is a list of keys"),
        ([], "symmetric_encryption_keys holds texts or bytes that are not empty"),
        (["key", ""], "holds texts or bytes"),
        ([None], "holds texts or bytes"),
    ],
)
def test_keys_that_make_no_sense_are_refused(keys: Any, complaint: str) -> None:
    with pytest.raises(InvalidChannelLayerError, match=complaint):
        Encryption(keys)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IS_ABLE", False)
    with pytest.raises(InvalidChannelLayerError, match=r"needs the package cryptography .*: pip install cryptography$"):
        Encryption(["key"])
