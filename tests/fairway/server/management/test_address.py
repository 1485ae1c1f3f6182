"""Where the management socket may be."""

from __future__ import annotations

import pytest

from fairway.server.limits import ConfigurationError, Limits
from fairway.server.management.address import Address, parsed


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/site", Address(path="/run/site")),
        ("127.0.0.1:9100", Address(host="127.0.0.1", port=9100)),
        ("127.8.0.1:0", Address(host="127.8.0.1", port=0)),
        ("[::1]:9100", Address(host="::1", port=9100)),
        ("localhost:1", Address(host="localhost", port=1)),
        ("public:0.0.0.0:9100", Address(host="0.0.0.0", port=9100)),
        ("public:[::]:9100", Address(host="::", port=9100)),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert parsed(text) == address


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("unix:", "has no path"),
        ("9100", "is no address"),
        (":9100", "is no address"),
        ("127.0.0.1:70000", "is no address"),
        ("127.0.0.1:http", "is no address"),
        ("0.0.0.0:9100", "or public:0.0.0.0:9100 if that is meant"),
        ("example.com:9100", "would let others than this machine in"),
    ],
)
def test_anything_else_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parsed(text)
    with pytest.raises(ConfigurationError, match=words):
        Limits.from_settings({"MANAGEMENT": text})


def test_nothing_is_an_address_that_is_off() -> None:
    assert Limits.from_settings({"MANAGEMENT": ""}).management == ""
