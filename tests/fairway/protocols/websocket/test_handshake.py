"""The opening handshake: what is offered, and each refusal with its status, headers and reason."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.utils import accept_key as other_accept_key

from fairway.protocols.websocket.handshake import (
    Headers,
    Offer,
    Refusal,
    accept_headers,
    accept_key,
    accept_lines,
    agreed_headers,
    check,
    check_connect,
    parse_extensions,
)

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
DEFLATE = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def request(*more: tuple[bytes, bytes], key: bytes | None = KEY, version: bytes | None = b"13") -> Headers:
    headers = [(b"host", b"example.org"), (b"upgrade", b"websocket"), (b"connection", b"Upgrade")]
    if key is not None:
        headers.append((b"sec-websocket-key", key))
    if version is not None:
        headers.append((b"sec-websocket-version", version))
    return [*headers, *more]


def offered(*more: tuple[bytes, bytes], allow_deflate: bool = True) -> Offer:
    offer = check("GET", "1.1", request(*more), allow_deflate)
    assert isinstance(offer, Offer), offer.reason
    return offer


def refused(headers: Headers, method: str = "GET", version: str = "1.1") -> tuple[int, str, Headers]:
    refusal = check(method, version, headers)
    assert isinstance(refusal, Refusal)
    return refusal.status, refusal.reason, refusal.headers


# --- acceptance


def test_the_key_of_the_rfc_gives_its_accept() -> None:
    assert accept_key(KEY) == ACCEPT


@given(st.binary(min_size=16, max_size=16))
def test_any_key_is_taken_and_answered_as_another_implementation_does(nonce: bytes) -> None:
    key = b64encode(nonce)
    offer = check("GET", "1.1", request(key=key))
    assert isinstance(offer, Offer)
    assert accept_key(offer.key).decode() == other_accept_key(key.decode())


def test_a_plain_handshake_offers_nothing_more() -> None:
    offer = offered()
    assert (offer.key, offer.subprotocols, offer.deflate) == (KEY, [], None)


def test_the_answer_has_the_protocols_fields() -> None:
    assert accept_lines(offered()) == (
        b"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: " + ACCEPT + b"\r\n"
    )
    more = [(b"x-one", b"1"), (b"set-cookie", b"a=b"), (b"set-cookie", b"c=d")]
    assert accept_headers(None, more) == more


def test_the_answer_names_subprotocol_and_extension() -> None:
    offer = offered((b"sec-websocket-protocol", b"chat"), (b"sec-websocket-extensions", b"permessage-deflate"))
    assert accept_lines(offer) == accept_lines(offered()) + b"sec-websocket-extensions: " + DEFLATE + b"\r\n"
    assert accept_headers("chat", [(b"x", b"1")]) == [(b"sec-websocket-protocol", b"chat"), (b"x", b"1")]


# --- refusals


@pytest.mark.parametrize("method", ["POST", "HEAD", "get", "CONNECT"])
def test_another_method_is_405(method: str) -> None:
    reason = "the handshake is not a GET (RFC 6455 section 4.1)"
    assert refused(request(), method=method) == (405, reason, [(b"allow", b"GET")])


@pytest.mark.parametrize("version", ["1.0", "2", "1.2"])
def test_another_http_version_is_400(version: str) -> None:
    assert refused(request(), version=version) == (400, "the handshake needs HTTP/1.1 (RFC 6455 section 4.1)", [])


@pytest.mark.parametrize("version", [None, b"", b"8", b"14", b"013", b"13, 8", b"x"])
def test_another_websocket_version_is_426_with_the_one_that_is_spoken(version: bytes | None) -> None:
    status, reason, headers = refused(request(version=version))
    assert (status, reason) == (426, "the version is not 13 (RFC 6455 section 4.4)")
    assert headers == [(b"sec-websocket-version", b"13"), (b"upgrade", b"websocket"), (b"connection", b"upgrade")]


@pytest.mark.parametrize(
    "key",
    [
        None,
        b"",
        b"short",
        KEY[:-1],
        KEY + b"=",
        b"dGhlIHNhbXBsZSBub25jZTE=",  # 17 bytes
        b"dGhlIHNhbXBsZSBub25j",  # 15 bytes
        b"dGhlIHNhbXBsZSBub2=jZQ==",
        b"dGhlIHNhbXBsZSBub25j!Q==",
        b"dGhlIHNhbXBsZSBub25-_Q==",
        KEY + b"\n",
    ],
)
def test_a_key_that_is_not_16_bytes_is_400(key: bytes | None) -> None:
    assert refused(request(key=key)) == (400, "the key is not 16 bytes of base64 (RFC 6455 section 4.2.1)", [])


def test_a_second_key_is_400() -> None:
    headers = request((b"sec-websocket-key", KEY))
    assert refused(headers) == (400, "more than one Sec-WebSocket-Key (RFC 6455 section 11.3.1)", [])


def test_a_second_version_is_400() -> None:
    headers = request((b"sec-websocket-version", b"13"))
    assert refused(headers) == (400, "more than one Sec-WebSocket-Version (RFC 6455 section 11.3.5)", [])


@pytest.mark.parametrize("value", [b"a b", b"chat, a b", b'"chat"', b"a/b", b"\xe9", b"a;b", b"a\x0bb"])
def test_a_subprotocol_that_is_not_a_token_is_400(value: bytes) -> None:
    headers = request((b"sec-websocket-protocol", value))
    assert refused(headers) == (400, "a subprotocol is not a token (RFC 6455 section 4.1)", [])


# --- subprotocols and extensions


def test_subprotocols_keep_their_order_over_several_headers() -> None:
    values = [b"chat,  news", b"v2.bus", b"\tlast ,x!#$%&'*+-.^_`|~"]
    offer = offered(*((b"sec-websocket-protocol", value) for value in values))
    assert offer.subprotocols == ["chat", "news", "v2.bus", "last", "x!#$%&'*+-.^_`|~"]


@pytest.mark.parametrize(
    ("values", "subprotocols"),
    [
        ([b""], []),
        ([b" , ,"], []),
        ([b"chat,"], ["chat"]),
        ([b",chat"], ["chat"]),
        ([b"a, , b"], ["a", "b"]),
        ([b"", b"chat"], ["chat"]),
    ],
)
def test_9110_5_6_1_2_empty_subprotocols_do_not_count(values: list[bytes], subprotocols: list[str]) -> None:
    assert offered(*((b"sec-websocket-protocol", value) for value in values)).subprotocols == subprotocols


def test_subprotocols_have_a_limit() -> None:
    names = b", ".join(b"p%d" % number for number in range(50))
    assert len(offered((b"sec-websocket-protocol", names)).subprotocols) == 50
    headers = request((b"sec-websocket-protocol", names), (b"sec-websocket-protocol", b"one-more"))
    assert refused(headers) == (400, "more than 50 subprotocols are offered", [])


def test_a_list_of_subprotocols_without_end_is_not_taken_apart() -> None:
    headers = request((b"sec-websocket-protocol", b"," * 30_000))
    reason = "the subprotocols are a list of more than 100 elements (RFC 9110 section 5.6.1)"
    assert refused(headers) == (400, reason, [])


def test_extensions_behind_the_first_ones_are_not_read() -> None:
    assert len(parse_extensions([b"x," * 30_000])) == 16
    assert parse_extensions([b"x; " + b"; ".join(b"p%d" % number for number in range(10_000))]) == []
    deflate = (b"sec-websocket-extensions", b"x-other, , permessage-deflate")
    assert offered(deflate).deflate is not None


def test_extensions_over_several_headers_are_one_list() -> None:
    bad = (b"sec-websocket-extensions", b"x-other, permessage-deflate; unknown")
    good = (b"sec-websocket-extensions", b"permessage-deflate; server_max_window_bits=10")
    assert offered(bad, good).deflate == (DEFLATE.decode() + "; server_max_window_bits=10", 10)


def test_compression_is_not_offered_where_it_is_not_allowed() -> None:
    assert offered((b"sec-websocket-extensions", b"permessage-deflate"), allow_deflate=False).deflate is None


@pytest.mark.parametrize("value", [b"", b"???", b"permessage-deflate; =", b'permessage-deflate; a="', b"\xff"])
def test_malformed_extensions_are_no_reason_to_refuse(value: bytes) -> None:
    assert offered((b"sec-websocket-extensions", value)).deflate is None


def test_extensions_are_taken_apart() -> None:
    parsed = parse_extensions([b"foo, bar; baz=2 ;qux", b'bar;  baz = "3"'])
    assert parsed == [("foo", {}), ("bar", {"baz": "2", "qux": None}), ("bar", {"baz": "3"})]


@pytest.mark.parametrize(
    "offer",
    [
        b"",
        b" ",
        b"two words",
        b"foo;",
        b"foo;;bar",
        b"foo; =1",
        b"foo; a=",
        b'foo; a=""',
        b'foo; a="b c"',
        b'foo; a="b',
        b'foo; a="b;c"',
        b"foo; a=1; a=1",
        b"foo; a; a=1",
        b"f\xc3\xb6\xc3\xb6",
    ],
)
def test_a_malformed_offer_is_left_out_and_the_next_one_counts(offer: bytes) -> None:
    assert parse_extensions([offer]) == []
    assert parse_extensions([offer + b", good; x=1"]) == [("good", {"x": "1"})]


# Over HTTP/2 (RFC 8441 section 5) --------------------------------------------------------------------------------


def connected(*headers: tuple[bytes, bytes], **options: Any) -> Offer:
    offer = check_connect([(b"sec-websocket-version", b"13"), *headers], **options)
    assert isinstance(offer, Offer)
    return offer


def test_8441_5_an_extended_connect_needs_no_key_and_no_upgrade() -> None:
    offer = connected()
    assert (offer.key, offer.subprotocols, offer.deflate) == (b"", [], None)
    assert agreed_headers(offer, None, [(b"x", b"1")]) == [(b"x", b"1")]


def test_8441_5_subprotocols_and_extensions_are_those_of_6455() -> None:
    headers = [
        (b"sec-websocket-protocol", b"chat, news"),
        (b"sec-websocket-extensions", b"permessage-deflate; client_max_window_bits"),
    ]
    offer, upgraded = connected(*headers), offered(*headers)
    assert offer.subprotocols == upgraded.subprotocols == ["chat", "news"]
    assert offer.deflate == upgraded.deflate
    assert agreed_headers(offer, "chat", [(b"x", b"1")]) == [
        (b"sec-websocket-protocol", b"chat"),
        (b"sec-websocket-extensions", DEFLATE),
        (b"x", b"1"),
    ]
    assert connected(*headers, allow_deflate=False).deflate is None
    refusal = check_connect([(b"sec-websocket-version", b"13"), *headers], max_subprotocols=1)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.reason) == (400, "more than 1 subprotocols are offered")


@pytest.mark.parametrize("version", [None, b"", b"8", b"13, 8"])
def test_6455_4_4_over_http_2_another_version_is_400_with_ours(version: bytes | None) -> None:
    refusal = check_connect([(b"sec-websocket-version", version)] if version is not None else [])
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.reason) == (400, "the version is not 13 (RFC 6455 section 4.4)")
    assert refusal.headers == [(b"sec-websocket-version", b"13")]


def test_6455_11_3_5_over_http_2_there_is_one_version() -> None:
    refusal = check_connect([(b"sec-websocket-version", b"13")] * 2)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "more than one Sec-WebSocket-Version (RFC 6455 section 11.3.5)"


@given(st.lists(st.binary(max_size=40), max_size=4), st.binary(max_size=30), st.binary(max_size=4))
def test_noise_in_the_headers_never_raises(values: list[bytes], key: bytes, version: bytes) -> None:
    names = [b"sec-websocket-extensions", b"sec-websocket-protocol", b"sec-websocket-other"]
    headers = [(names[index % 3], value) for index, value in enumerate(values)]
    check("GET", "1.1", request(*headers))
    assert isinstance(check("GET", "1.1", request(key=key, version=version)), Refusal)
