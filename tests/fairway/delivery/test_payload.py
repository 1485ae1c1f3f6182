"""`Payload`: made once, encoded once for each encoder."""

from __future__ import annotations

import pytest
from tests.fairway.delivery.doubles import Encoding

from fairway.delivery import Payload


@pytest.mark.parametrize("arguments", [(), ("a", b"a")])
def test_a_payload_has_exactly_one_of_text_and_bytes(arguments):
    with pytest.raises(ValueError, match="a payload has either text or bytes: pass one of them"):
        Payload(*arguments)


@pytest.mark.parametrize(("payload", "form"), [(Payload("é"), b"t\xc3\xa9"), (Payload(data=b"\0"), b"b\0")])
def test_a_payload_is_encoded_once_for_each_encoder(payload, form):
    first, second = Encoding(), Encoding()
    made = payload.form(first)
    assert made == form
    assert payload.form(first) is made
    assert payload.form(second) == form
    assert (first.calls, second.calls) == (1, 1)


def test_empty_text_and_empty_bytes_are_payloads():
    assert Payload("").as_event() == {"text": ""}
    assert Payload(data=b"").as_message() == {"type": "fairway.broadcast", "bytes": b""}
