"""`hosts` in every form: those of channels_redis are accepted, or refused in one sentence."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from django.test import override_settings
from tests.fairway.layers.redis import example_settings

from channels.layers import get_channel_layer
from fairway.layers.errors import InvalidChannelLayerError
from fairway.layers.redis import RedisChannelLayer
from fairway.layers.redis.address import Master, Server, addresses


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (None, [Server("localhost", 6379)]),
        ([], [Server("localhost", 6379)]),
        ("redis://there:7000/3", [Server("there", 7000, db=3)]),
        (b"redis://there", [Server("there")]),
        (["redis://there:7000", ("here", 7001)], [Server("there", 7000), Server("here", 7001)]),
        (("there", 7000), [Server("there", 7000)]),
        ((("there", 7000), "redis://here"), [Server("there", 7000), Server("here")]),
        ([["there", 7000]], [Server("there", 7000)]),
        ([{"host": "there", "port": "7000", "db": "1"}], [Server("there", 7000, db=1)]),
        ({"address": "redis://there", "db": 2}, [Server("there", db=2)]),
        (["redis://me:pass%20word@there"], [Server("there", username="me", password="pass word")]),
        (["redis://:word@there"], [Server("there", password="word")]),
        (["unix:///run/redis.sock?db=2"], [Server(path="/run/redis.sock", db=2)]),
        ([{"unix_socket_path": "/run/redis.sock"}], [Server(path="/run/redis.sock")]),
        ([{"host": "there", "socket_timeout": 5, "max_connections": 3, "retry_on_timeout": True}], [Server("there")]),
        (
            [{"sentinels": [("one", 26379), ("two", 26380)], "master_name": "main", "password": "word"}],
            [Master("main", [Server("one", 26379), Server("two", 26380)], Server(password="word"))],
        ),
        (
            [{"sentinels": [("one", 26379)], "master_name": "main", "sentinel_kwargs": {"password": "other"}, "db": 1}],
            [Master("main", [Server("one", 26379, password="other")], Server(db=1))],
        ),
    ],
    ids=repr,
)
def test_every_form_is_understood(hosts: Any, expected: list[Server | Master]) -> None:
    assert addresses(hosts) == expected


@pytest.mark.parametrize(
    ("hosts", "complaint"),
    [
        (["there:6379"], r"^hosts: a URL of scheme 'there:6379' cannot be read: "),
        (["http://there"], r"^hosts: a URL of scheme 'http' cannot be read: "),
        (["ftp://me:secret@there"], r"^hosts: a URL of scheme 'ftp' cannot be read: (?!.*secret)"),
        ([("there",)], r"^hosts: \('there',\) is not \(host, port\)$"),
        ([7], r"^hosts: 7 is neither a URL, nor \(host, port\), nor a dictionary$"),
        ([{"host": "there", "pasword": "x"}], r"^hosts: the option 'pasword' is not known; did you mean 'password'\?$"),
        ([{"qqqqqq": "x"}], r"^hosts: the option 'qqqqqq' is not known$"),
        ([("there", "port")], r"^hosts: port is 'port', which is not a number$"),
        (
            [{"master_name": "main"}],
            r"^hosts: Sentinels need both master_name and sentinels, a list of \(host, port\)$",
        ),
        (["rediss://there?ssl_ca_certs=/nowhere"], r"^hosts: the options of TLS make no sense: .*No such file"),
        (["rediss://there?ssl_cert_reqs=sometimes"], r"^hosts: the options of TLS make no sense: "),
    ],
    ids=repr,
)
def test_what_makes_no_sense_is_said_in_a_sentence(hosts: Any, complaint: str) -> None:
    with pytest.raises(InvalidChannelLayerError, match=complaint):
        addresses(hosts)


def tls_of(hosts: Any) -> ssl.SSLContext:
    (server,) = addresses(hosts)
    assert isinstance(server, Server)
    assert server.tls is not None
    return server.tls


def test_tls_is_checked_unless_told_otherwise() -> None:
    for hosts in ("rediss://there:7000", {"host": "there", "ssl": True}):
        assert (tls_of(hosts).verify_mode, tls_of(hosts).check_hostname) == (ssl.CERT_REQUIRED, True)
    assert tls_of("rediss://there?ssl_cert_reqs=none").verify_mode is ssl.CERT_NONE
    assert tls_of({"host": "there", "ssl": True, "ssl_cert_reqs": None}).verify_mode is ssl.CERT_NONE
    unnamed = tls_of("rediss://there?ssl_check_hostname=false")
    assert (unnamed.verify_mode, unnamed.check_hostname) == (ssl.CERT_REQUIRED, False)


def test_passwords_are_not_shown() -> None:
    assert "secret" not in repr(addresses("redis://me:secret@there"))
    assert str(addresses("redis://me:secret@there")[0]) == "there:6379"


def test_the_settings_that_the_documentation_shows_make_a_layer() -> None:
    with override_settings(CHANNEL_LAYERS=example_settings.CHANNEL_LAYERS):
        assert isinstance(get_channel_layer(), RedisChannelLayer)


@pytest.mark.parametrize(
    "options",
    [
        {"prefix": "asgi", "expiry": 30, "group_expiry": 100, "capacity": 5, "channel_capacity": {"a*": 1}},
        {"symmetric_encryption_keys": None, "random_prefix_length": 12, "serializer_format": "msgpack"},
        {"symmetric_encryption_keys": [], "on_disconnect": None, "on_reconnect": None},
        {"slow_consumers": {"a*": "drop-oldest"}, "confirm": True, "max_message_size": 100},
    ],
)
def test_options_of_channels_redis_are_taken(options: dict[str, Any]) -> None:
    layer = RedisChannelLayer(**options)
    assert layer.capacity == options.get("capacity", 100)
    assert layer.expiry == options.get("expiry", 60)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"serializer_format": "json"}, "serializer_format is not supported: messages travel as MessagePack"),
        (
            {"symmetric_encryption_keys": "key"},
            "symmetric_encryption_keys is a list of keys",
        ),
        ({"on_reconnect": print}, "on_reconnect is not supported: channels_redis 4 never calls it"),
    ],
)
def test_options_that_would_mean_nothing_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidChannelLayerError, match=complaint):
        RedisChannelLayer(**options)


def test_an_unknown_option_is_an_error() -> None:
    with pytest.raises(TypeError, match="capasity"):
        RedisChannelLayer(capasity=3)
