"""What the pages on running a site name exists: flags, settings, variables, metrics, commands, figures and log lines.

Log lines are written on the pages with an ellipsis for what differs, and compared with the strings in the source.
"""

from __future__ import annotations

import functools
import re
from dataclasses import fields
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, split

from fairway.server import cli
from fairway.server.limits import Limits, variable_name
from fairway.server.management.metrics import NAMES

HOWTO = ROOT / "docs" / "howto"
NAMED = [
    "deploy", "deploy-in-containers", "deploy-on-several-machines", "upgrade-without-an-outage", "tune",
    "plan-capacity", "troubleshoot", "secure-a-server",
]  # fmt: skip
PAGES = [HOWTO / f"{name}{language}.md" for name in NAMED for language in ("", ".zh-CN")]

# Flags of other programs, and of pip, that the pages use.
FOREIGN_FLAGS = {
    "--system", "--group", "--home", "--no-create-home", "--requirement", "--deploy", "--database", "--noinput",
    "--now", "--unix-socket", "--since", "--latency", "--detach", "--clear", "--outdated",
    "--deploy-hook", "--parts", "--no-cache-dir", "--uid", "--from", "--to", "--save", "--appendonly", "--maxmemory",
}  # fmt: skip
# What is not Fairway's among names in capitals.
FOREIGN_NAMES = {
    "ALLOWED_HOSTS", "SECRET_KEY", "SECRET_KEY_FALLBACKS", "SECURE_HSTS_SECONDS", "SECURE_PROXY_SSL_HEADER",
    "USE_X_FORWARDED_HOST", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "CONN_MAX_AGE",
    "DATA_UPLOAD_MAX_MEMORY_SIZE", "STATIC_ROOT", "CHANNEL_LAYERS", "REDIS_URL", "ASGI_THREADS", "WEB_CONCURRENCY",
    "FORWARDED_ALLOW_IPS", "LISTEN_FDS", "DJANGO_SETTINGS_MODULE", "RENEWED_LINEAGE", "AF_UNIX", "AF_INET", "AF_INET6",
}  # fmt: skip
# Lines of other programs, and of the access log, on the page about troubles.
FOREIGN_LINES = (
    "CurrentThreadExecutor ",
    '"WS ',
    '"GET ',
    "connect() to unix:",
    "worker_connections are",
    "start operation",
    "systemctl ",
)


def code(page: Path) -> list[str]:
    """The pieces of code on a page: its blocks, and what stands in backquotes."""
    blocks, prose = split(page)
    return [block.text for block in blocks] + re.findall(r"`([^`\n]+)`", prose)


@pytest.mark.parametrize("name", NAMED)
def test_both_languages_show_the_same_code(name: str) -> None:
    english, chinese = (
        [(one.kind, one.path, re.sub(r"#.*", "", one.text)) for one in split(HOWTO / f"{name}{language}.md")[0]]
        for language in ("", ".zh-CN")
    )
    assert english == chinese


@pytest.mark.parametrize("name", NAMED)
def test_both_languages_name_the_same_things(name: str) -> None:
    english, chinese = (
        sorted(
            one
            for one in code(HOWTO / f"{name}{language}.md")
            if re.fullmatch(r"[A-Z][A-Z0-9_]+|fairway_\w+|--\S+", one)
        )
        for language in ("", ".zh-CN")
    )
    assert set(english) == set(chinese)


@pytest.fixture(scope="module")
def flags() -> set[str]:
    """The flags of `fairway` and of its commands, from the commands themselves."""
    found: set[str] = set()
    source = "".join(
        (ROOT / "src/fairway" / one).read_text(encoding="utf-8")
        for one in ("server/management/terminal.py", "doctor/doctor.py")
    )
    found.update(re.findall(r"\"(--[a-z-]+)\"", source))
    found.update(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", cli._parser("0").format_help()))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_flags_on_a_page_exist(page: Path, flags: set[str]) -> None:
    named = {flag for one in code(page) for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", one)}

    assert named - flags - FOREIGN_FLAGS == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_settings_and_variables_on_a_page_exist(page: Path) -> None:
    known = {field.name.upper() for field in fields(Limits)} | {variable_name(field.name) for field in fields(Limits)}
    named = {name for one in code(page) for name in re.findall(r"(?<![\w$])[A-Z][A-Z0-9]*_[A-Z0-9_]+\b", one)}

    assert named - known - FOREIGN_NAMES == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_metrics_on_a_page_exist(page: Path) -> None:
    named = {name for one in code(page) for name in re.findall(r"\bfairway_[a-z_]+", one)} - {"fairway_fairway"}

    assert {name for name in named if not name.startswith("fairway_-")} - NAMES == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_benchmarks_on_a_page_exist(page: Path) -> None:
    targets = set(re.findall(r"(?m)^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))

    for one in code(page):
        assert set(re.findall(r"\bmake ([a-z0-9-]+)", one)) <= targets
        assert all((ROOT / script).exists() for script in re.findall(r"\bbench/\w+\.py", one))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name.startswith("plan-capacity")], ids=lambda page: page.name
)
def test_the_figures_are_those_that_were_measured(page: Path) -> None:
    results = "".join(one.read_text(encoding="utf-8") for one in sorted((ROOT / "bench" / "results").glob("*.md")))
    rows = re.findall(r"(?m)^\| [^|]+ \| ([\d.,]+) \| ([\d.,]*) ?\|", page.read_text(encoding="utf-8"))
    figures = {figure for row in rows for figure in row if figure} - {"20,000"}

    assert len(figures) >= 20
    assert [one for one in figures if not re.search(rf"(?<![\d.,]){re.escape(one)}(?![\d,]|\.\d)", results)] == []


@functools.cache
def strings() -> str:
    """The source, with each string in one piece, and an ellipsis for what is put into it."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    for quote in ('"', "'"):
        source = re.sub(rf"{quote}\s*\n\s*f?{quote}", "", source)
    return re.sub(r"\{[^{}\n]*\}|%[-.\d]*[sdgfr]", "…", source)


@pytest.mark.parametrize("page", [page for page in PAGES if "trouble" in page.name], ids=lambda page: page.name)
def test_the_log_lines_are_those_of_the_code(page: Path) -> None:
    cells = [
        cell
        for row in re.findall(r"(?m)^\|(.+)\|$", page.read_text(encoding="utf-8"))
        for cell in row.split(" | ")[:-1]
    ]
    lines = [line for cell in cells for line in re.findall(r"`([^`]+)`", cell) if " " in line]
    ours = [line for line in lines if not line.startswith(FOREIGN_LINES)]
    pieces = [(line, piece.strip()) for line in ours for piece in line.split("…") if len(piece.strip(" \"'")) > 5]

    assert len(ours) > 50
    assert [line for line, piece in pieces if piece not in strings()] == []
