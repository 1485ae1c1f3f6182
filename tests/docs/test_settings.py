"""The page of settings names every setting there is, with its default and unit, and no other."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path

from tests.docs.pages import ROOT, split

from channels.layers import InMemoryChannelLayer
from fairway.server.limits import CHOICES, Limits, variable_name

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("demo/**/*.md"), *ROOT.glob("compat/**/*.md")]
KEYS = {field.name.upper() for field in fields(Limits)}

PAGE = (ROOT / "docs/ref/settings.md").read_text(encoding="utf-8")
CHINESE = ROOT / "docs/ref/settings.zh-CN.md"
ROWS = re.findall(r'^\| `"?([A-Za-z0-9_]+)"?` \| `([^`]+)` \| ([a-z ]+) \| .+ \|$', PAGE, re.MULTILINE)


# The example of the page.
FAIRWAY = {
    "MAX_MESSAGE_BYTES": 4 * 1024 * 1024,
    "PING_INTERVAL": 50,
}


def unit(name: str, kind: str) -> str:
    windows = [f"http2_{which}_window" for which in ("stream", "max_stream", "connection")]
    in_bytes = ("deflate_min_bytes", "outbox_high_water", "max_client_memory", *windows)
    special = {
        "deflate_level": "level",
        "http2_patience": "tokens",
        "min_body_rate": "bytes a second",
        "max_bytes_per_second": "bytes a second",
        "max_messages_per_second": "messages a second",
        "management": "address",
        **dict.fromkeys(in_bytes, "bytes"),
    }
    of_numbers = "bytes" if name.endswith("bytes") else "count"
    of_texts = "choice" if name in CHOICES else "list" if name == "tls_ciphers" else "path"
    return special.get(name) or {"bool": "on or off", "float": "seconds", "int": of_numbers, "str": of_texts}[kind]


def test_every_limit_is_on_the_page_with_its_default_and_unit():
    limits = [(field.name.upper(), repr(field.default), unit(field.name, str(field.type))) for field in fields(Limits)]

    assert sorted(row for row in ROWS if row[0].isupper()) == sorted(limits)


def test_every_option_of_the_layer_in_memory_is_on_the_page():
    parameters = inspect.signature(InMemoryChannelLayer).parameters.values()
    options = [(option.name, str(option.default)) for option in parameters if option.kind is not option.VAR_KEYWORD]

    assert [row[:2] for row in ROWS if row[0].islower()] == options


def test_the_chinese_page_has_the_same_keys_and_defaults_and_its_units_say_the_same():
    row = re.compile(r'^\| `"?([A-Za-z0-9_]+)"?` \| `([^`]+)` \| ([^`|]+) \| .+ \|$', re.MULTILINE)
    chinese = row.findall(CHINESE.read_text(encoding="utf-8"))

    assert [found[:2] for found in chinese] == [found[:2] for found in ROWS]
    assert len({(here[2], there[2]) for here, there in zip(chinese, ROWS, strict=True)}) == len(
        {row[2] for row in ROWS}
    )


def test_the_example_is_valid():
    limits = Limits.from_settings(FAIRWAY)

    assert (limits.max_message_bytes, limits.ping_interval) == (4_194_304, 50)


def in_code(page: Path) -> set[str]:
    """The first word of each piece of code within the text of a page."""
    return set(re.findall(r"`\"?([A-Za-z][A-Za-z0-9_]*)\b[^`\n]*`", split(page)[1]))


def test_no_page_writes_a_key_of_fairway_in_small_letters() -> None:
    small = {key.lower() for key in KEYS if "_" in key}  # a single word may be somebody else's, as nginx's http2

    wrong = {str(page): found for page in PAGES if (found := in_code(page) & small)}

    assert wrong == {}


def test_no_page_names_a_key_that_is_nearly_one() -> None:
    named = {(word, str(page)) for page in PAGES for word in in_code(page) if word.isupper()}

    known = KEYS | {variable_name(field.name) for field in fields(Limits)}

    assert [
        (word, page) for word, page in named if word not in known and get_close_matches(word, known, cutoff=0.8)
    ] == []
    assert {word for word, _ in named} >= {"OUTBOX_BYTES", "WRITE_STALL_TIMEOUT"}
