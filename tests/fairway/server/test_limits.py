"""`Limits`: safe defaults, and one sentence for whatever cannot be meant."""

from __future__ import annotations

import dataclasses
import inspect
import math
from pathlib import Path

import pytest

from fairway.server.limits import CHOICES, ConfigurationError, Limits, descriptions, misspelt_variables
from fairway.server.tls.options import TlsOptions

FIELDS = [field.name for field in dataclasses.fields(Limits)]
SECONDS = [field.name for field in dataclasses.fields(Limits) if field.type == "float"]
TEXTS = [field.name for field in dataclasses.fields(Limits) if field.type == "str"]
OFF_AT_ZERO = {"stall_warning", "worker_kill_after"}
COUNTS = [field.name for field in dataclasses.fields(Limits) if field.type == "int"]


def test_defaults_are_valid_and_keep_alive_outlasts_a_load_balancer():
    limits = Limits()

    assert limits.keep_alive_timeout > 60
    assert limits.max_message_bytes == 1024 * 1024
    assert limits.max_connections == 0


def test_settings_are_the_fields_in_upper_case():
    limits = Limits.from_settings({"PING_INTERVAL": 10, "DEFLATE": False, "MAX_HEADER_COUNT": 50})

    assert limits == Limits(ping_interval=10, deflate=False, max_header_count=50)


def test_no_settings_are_the_defaults():
    assert Limits.from_settings({}) == Limits()


@pytest.mark.parametrize(
    ("key", "near"),
    [("PING_INTERVL", "PING_INTERVAL"), ("ping_interval", "PING_INTERVAL"), ("MAX_MESAGE_SIZE", "MAX_MESSAGE_BYTES")],
)
def test_unknown_setting_names_the_nearest(key: str, near: str):
    with pytest.raises(ConfigurationError, match=f'^FAIRWAY has no setting {key!r}; did you mean "{near}"\\?$'):
        Limits.from_settings({key: 1})


@pytest.mark.parametrize("key", ["COLOUR_OF_THE_SKY", 7])
def test_setting_like_no_other_lists_them_all(key: object):
    with pytest.raises(ConfigurationError, match=r"it knows CERTFILE, .*, MAX_REQUEST_LINE_BYTES, .*, DEFLATE_LEVEL$"):
        Limits.from_settings({key: 1})  # type: ignore[dict-item]


def test_settings_must_be_a_dictionary():
    with pytest.raises(ConfigurationError, match=r"^FAIRWAY must be a dictionary, not \['PING_INTERVAL'\]$"):
        Limits.from_settings(["PING_INTERVAL"])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted({*SECONDS} - OFF_AT_ZERO))
@pytest.mark.parametrize("value", [0, -1.5, math.nan])
def test_seconds_are_positive(name: str, value: float):
    with pytest.raises(ConfigurationError, match=f"^{name} must be more than 0 seconds, not {value!r}$"):
        Limits(**{name: value})


@pytest.mark.parametrize("name", sorted(OFF_AT_ZERO))
def test_zero_seconds_switch_some_things_off_and_less_is_refused(name: str):
    assert getattr(Limits(**{name: 0}), name) == 0
    for value in (-1.5, math.nan):
        with pytest.raises(ConfigurationError, match=f"^{name} must be at least 0 seconds, not {value!r}$"):
            Limits(**{name: value})


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", ["10", None, True])
def test_seconds_are_numbers(name: str, value: object):
    with pytest.raises(ConfigurationError, match=f"^{name} must be a number of seconds, not {value!r}$"):
        Limits(**{name: value})


@pytest.mark.parametrize("name", sorted({*TEXTS} - CHOICES.keys()))
@pytest.mark.parametrize("value", [7, None, True, b"bytes"])
def test_texts_are_texts(name: str, value: object):
    with pytest.raises(ConfigurationError, match=f"^{name} must be a text, not {value!r}$"):
        Limits(**{name: value})


@pytest.mark.parametrize("name", sorted(CHOICES))
@pytest.mark.parametrize("value", ["", "sometimes", "1.0", 1.2, None])
def test_some_are_one_of_a_few(name: str, value: object):
    with pytest.raises(ConfigurationError, match=f"^{name} must be one of [a-z0-9., ]+, not {value!r}$"):
        Limits(**{name: value})


def test_a_path_may_be_a_path():
    assert Limits.from_settings({"CERTFILE": Path("/etc/cert.pem")}) == Limits(certfile="/etc/cert.pem")


def test_infinity_switches_a_deadline_off():
    assert Limits(keep_alive_timeout=math.inf).keep_alive_timeout == math.inf


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [1.0, "1", True, None])
def test_counts_are_whole_numbers(name: str, value: object):
    with pytest.raises(ConfigurationError, match=f"^{name} must be a whole number, not "):
        Limits(**{name: value})


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_not_negative(name: str):
    with pytest.raises(ConfigurationError, match=f"^{name} must be at least (0|1|65535), not -1$"):
        Limits(**{name: -1})


def test_compression_level_has_an_end():
    with pytest.raises(ConfigurationError, match=r"^deflate_level must be at most 9, not 10$"):
        Limits(deflate_level=10)


def test_switch_is_a_bool():
    with pytest.raises(ConfigurationError, match=r'^FAIRWAY\["DEFLATE"\] must be True or False, not 1$'):
        Limits.from_settings({"DEFLATE": 1})


def test_wrong_value_in_settings_is_reported_under_its_key():
    with pytest.raises(ConfigurationError, match=r'^FAIRWAY\["MAX_CONNECTIONS"\] must be at least 0, not -3$'):
        Limits.from_settings({"MAX_CONNECTIONS": -3})


def test_high_water_lies_within_the_outbox():
    with pytest.raises(
        ConfigurationError,
        match=r"^FAIRWAY: outbox_high_water \(65536\) must not be above outbox_bytes \(1000\)$",
    ):
        Limits.from_settings({"OUTBOX_BYTES": 1000})


def test_every_field_is_explained():
    lines = [*inspect.getsource(TlsOptions).splitlines(), *inspect.getsource(Limits).splitlines()]
    for name in FIELDS:
        at = next(number for number, line in enumerate(lines) if line.startswith(f"    {name}:"))
        assert lines[at + 1].startswith('    """'), f"{name} has no docstring"


def test_limits_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().ping_interval = 1.0  # type: ignore[misc]


# Environment variables and flags ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("FAIRWAY_MAX_MESSAGE_BYTES", "4096", "max_message_bytes", 4096),
        ("FAIRWAY_PING_INTERVAL", " 2.5 ", "ping_interval", 2.5),
        ("FAIRWAY_CONNECT_TIMEOUT", "inf", "connect_timeout", float("inf")),
        ("FAIRWAY_DEFLATE", "Off", "deflate", False),
        ("FAIRWAY_DEFLATE", "1", "deflate", True),
    ],
)
def test_variable_outweighs_what_is_set(variable: str, text: str, field: str, value: object):
    environment = {variable: text, "FAIRWAY_REQUIRE_BROWSER": "1"}
    limits = Limits(max_message_bytes=7, deflate=False).with_environment(environment)

    assert getattr(limits, field) == value
    assert limits.max_fragments == Limits().max_fragments


@pytest.mark.parametrize(
    ("variable", "text", "sentence"),
    [
        ("FAIRWAY_MAX_MESSAGE_BYTES", "4M", "FAIRWAY_MAX_MESSAGE_BYTES must be a whole number, not '4M'"),
        ("FAIRWAY_MAX_MESSAGE_BYTES", "", "FAIRWAY_MAX_MESSAGE_BYTES must be a whole number, not ''"),
        ("FAIRWAY_MAX_FRAGMENTS", "0", "FAIRWAY_MAX_FRAGMENTS must be at least 1, not 0"),
        ("FAIRWAY_PING_TIMEOUT", "nan", "FAIRWAY_PING_TIMEOUT must be more than 0 seconds, not nan"),
        ("FAIRWAY_PING_TIMEOUT", "soon", "FAIRWAY_PING_TIMEOUT must be a number of seconds, not 'soon'"),
        ("FAIRWAY_DEFLATE", "maybe", "FAIRWAY_DEFLATE must be True or False, not 'maybe'"),
        (
            "FAIRWAY_OUTBOX_HIGH_WATER", "99999999",
            "outbox_high_water (99999999) must not be above outbox_bytes (1048576)",
        ),
    ],
)  # fmt: skip
def test_variable_that_cannot_be_meant_is_one_sentence(variable: str, text: str, sentence: str):
    with pytest.raises(ConfigurationError) as caught:
        Limits().with_environment({variable: text})

    assert str(caught.value) == sentence


def test_variable_that_is_nearly_one_of_ours_is_named_and_others_are_not():
    environment = {"FAIRWAY_MAX_MESAGE_BYTES": "1", "FAIRWAY_REQUIRE_BROWSER": "1", "FAIRWAY_DEFLATE": "1", "PATH": ""}

    assert misspelt_variables(environment) == [
        "the environment variable FAIRWAY_MAX_MESAGE_BYTES has no effect; did you mean FAIRWAY_MAX_MESSAGE_BYTES?"
    ]


def test_every_limit_has_a_description():
    assert set(descriptions()) == {field.name for field in dataclasses.fields(Limits)}
    assert descriptions()["max_header_count"] == "Most header lines in one request; beyond it 431."
