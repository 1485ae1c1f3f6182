"""`channels.checks`: what `manage.py check` says about the setup, and what it keeps quiet about.

The middlewares that are judged are real ones; applications are modules on disk, imported as a project's are.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import django
import pytest
from django.core import checks
from django.urls import include, path, re_path

import channels.checks
from channels.auth import AuthMiddleware, AuthMiddlewareStack
from channels.checks import OLDEST_DJANGO, SERVICES_TAG, TAG
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import InMemoryChannelLayer
from channels.middleware import BaseMiddleware
from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from channels.sessions import CookieMiddleware, SessionMiddleware, SessionMiddlewareStack
from tests.channels.management.project import ASGI_APPLICATION, STATICFILES, Project
from tests.services.redis import free_port

ROOT = Path(__file__).parents[2]
NOWHERE = "Name the application of the project, such as ASGI_APPLICATION = "

consumer = AsyncWebsocketConsumer.as_asgi()
pages = consumer  # whatever answers requests
application = ProtocolTypeRouter({"http": pages, "websocket": AuthMiddlewareStack(URLRouter([path("ws/", consumer)]))})
not_callable = "an application"

Say = Callable[..., list[checks.CheckMessage]]


@pytest.fixture
def say(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Say:
    """Run the checks in a project that is in order but for the settings that are given."""
    settings.ASGI_APPLICATION = f"{__name__}.application"
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)

    def run(
        *, deploy: bool = False, databases: list[str] | None = None, tags: Sequence[str] | None = (TAG,), **changes: Any
    ) -> list[checks.CheckMessage]:
        for name, value in changes.items():
            setattr(settings, name, value)
        return checks.run_checks(tags=tags, include_deployment_checks=deploy, databases=databases)

    return run


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Write a module `site_under_check`, to be imported anew; returns its path."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text: str) -> str:
        target = tmp_path / "site_under_check.py"
        target.write_text(textwrap.dedent(text).lstrip())
        return str(target)

    yield write
    sys.modules.pop("site_under_check", None)


def only(messages: list[checks.CheckMessage], number: str) -> checks.CheckMessage:
    assert [message.id for message in messages] == [f"channels.{number}"]
    assert messages[0].level == (checks.ERROR if number.startswith("E") else checks.WARNING)
    assert messages[0].hint
    return messages[0]


def test_a_project_in_order_hears_nothing(say: Say):
    assert say() == []


def test_old_django(say: Say, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(django, "VERSION", (4, 2, 16, "final", 0))
    monkeypatch.setattr(django, "get_version", lambda: "4.2.16")

    message = only(say(), "E001")

    assert message.msg == "Django 4.2.16 is too old: Django 5.2 is the oldest version that works."
    assert message.hint == 'Run: pip install "Django>=5.2"'


def test_another_distribution_in_the_same_folder(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    info = tmp_path / "channels-4.3.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: channels\nVersion: 4.3.2\n")
    (info / "RECORD").write_text("channels/__init__.py,,\nchannels/consumer.py,,\n")
    monkeypatch.syspath_prepend(tmp_path)

    message = only(say(), "W010")

    assert message.msg.startswith("channels 4.3.2 also has files in channels/ or fairway/, where Fairway's belong")
    assert message.hint == "Run: fairway doctor, which prints the command that mends it"


def test_oldest_django_is_the_one_that_is_required():
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]

    assert f"Django>={'.'.join(map(str, OLDEST_DJANGO))}" in required


@pytest.mark.parametrize("value", [None, ""])
def test_application_is_not_set(say: Say, value: str | None):
    message = only(say(ASGI_APPLICATION=value), "W001")

    assert message.msg == "ASGI_APPLICATION is not set: runserver and runworker do not know what to run."
    assert message.hint.startswith(NOWHERE)


@pytest.mark.parametrize("value", ["application", "mysite.", 7])
def test_application_is_no_path(say: Say, value: object):
    message = only(say(ASGI_APPLICATION=value), "E002")

    assert message.msg == f"ASGI_APPLICATION is {value!r}, which is not a dotted path."


@pytest.mark.parametrize(
    ("value", "missing"),
    [("absent_site.asgi.application", "absent_site"), ("tests.absent.application", "tests.absent")],
)
def test_module_is_absent(say: Say, value: str, missing: str):
    message = only(say(ASGI_APPLICATION=value), "E003")

    assert message.msg == f"ASGI_APPLICATION: there is no module {missing!r}."
    assert message.hint.startswith(NOWHERE)


@pytest.mark.parametrize(
    ("text", "error", "line"),
    [
        ("import os\nimport absent_library", "ModuleNotFoundError: No module named 'absent_library'", 2),
        ("application = misspelt", "NameError: name 'misspelt' is not defined", 1),
        ("from channels.db import Absent", "ImportError: cannot import name 'Absent' from 'channels.db'", 1),
        ("import json\njson.loads('[')", "JSONDecodeError: ", 2),
        ("x = 1\ndef application(:", "SyntaxError: invalid syntax", 2),
    ],
)  # fmt: skip
def test_module_cannot_be_imported(say: Say, module: Callable[[str], str], text: str, error: str, line: int):
    file = module(text)

    message = only(say(ASGI_APPLICATION="site_under_check.application"), "E003")

    assert message.msg.startswith(f"ASGI_APPLICATION: 'site_under_check' cannot be imported: {error}")
    if "json" not in text:
        assert message.msg.endswith(f"({file}, line {line}).")
    assert message.hint.endswith('manage.py shell -c "import site_under_check"')


def test_database_that_is_not_ready_is_no_error(say: Say, module: Callable[[str], str]):
    module("""
        from django.db import ProgrammingError
        raise ProgrammingError("no such table: rooms")
    """)

    message = only(say(ASGI_APPLICATION="site_under_check.application"), "W002")

    assert "ProgrammingError: no such table: rooms" in message.msg
    assert "ask it later" in message.hint


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("aplication", f"the module '{__name__}' has no attribute 'aplication'. Did you mean 'application'?"),
        ("xyzzy", f"the module '{__name__}' has no attribute 'xyzzy'."),
        ("not_callable", f"the module '{__name__}' has 'not_callable' of type str, which cannot be called."),
    ],
)
def test_module_has_no_such_application(say: Say, name: str, text: str):
    message = only(say(ASGI_APPLICATION=f"{__name__}.{name}"), "E004")

    assert message.msg == f"ASGI_APPLICATION: {text}"


def test_application_that_is_being_imported_is_left_alone(say: Say, module: Callable[[str], str]):
    module("""
        from django.core import checks
        during = checks.run_checks(tags=["channels"])
        application = None
    """)

    message = only(say(ASGI_APPLICATION="site_under_check.application"), "E004")

    assert "NoneType" in message.msg
    assert sys.modules["site_under_check"].during == []


# Middlewares.


class OwnMiddleware(BaseMiddleware):
    """Might put a session into the scope."""


class OwnAuthMiddleware(AuthMiddleware):
    """Might do without one."""


NEEDS_SESSION = "AuthMiddleware is not inside of SessionMiddleware: every connection that reaches it fails."
NEEDS_COOKIES = "SessionMiddleware is not inside of CookieMiddleware: every connection that reaches it fails."


@pytest.mark.parametrize(
    ("websocket", "faults"),
    [
        (AuthMiddleware(consumer), [NEEDS_SESSION]),
        (CookieMiddleware(AuthMiddleware(consumer)), [NEEDS_SESSION]),
        (SessionMiddleware(AuthMiddleware(consumer)), [NEEDS_COOKIES]),
        (SessionMiddleware(CookieMiddleware(consumer)), [NEEDS_COOKIES]),
        (AllowedHostsOriginValidator(URLRouter([path("ws/", AuthMiddleware(consumer))])), [NEEDS_SESSION]),
        (URLRouter([path("a/", include([path("b/", AuthMiddleware(consumer))]))]), [NEEDS_SESSION]),
        (URLRouter([path("a/", AuthMiddleware(consumer)), path("b/", AuthMiddleware(consumer))]), [NEEDS_SESSION]),
        (SessionMiddlewareStack(URLRouter([path("ws/", AuthMiddleware(consumer))])), []),
        (AuthMiddlewareStack(AuthMiddlewareStack(consumer)), []),
        (OwnMiddleware(AuthMiddleware(consumer)), []),
        (AuthMiddlewareStack(OwnMiddleware(AuthMiddleware(consumer))), []),
        (OwnAuthMiddleware(consumer), []),
        (consumer, []),
    ],
)
def test_middleware_without_what_it_reads(say: Say, monkeypatch: pytest.MonkeyPatch, websocket: Any, faults: list[str]):
    monkeypatch.setattr(
        sys.modules[__name__], "application", ProtocolTypeRouter({"http": pages, "websocket": websocket})
    )

    messages = say()

    assert [message.msg for message in messages] == faults
    assert {message.id for message in messages} <= {"channels.E005"}
    assert all("MiddlewareStack" in message.hint for message in messages)


def test_a_route_that_leads_to_no_application(say: Say, monkeypatch: pytest.MonkeyPatch):
    routes = URLRouter([path("a/", lambda: None), path("b/", OwnConsumer), path("c/", consumer)])
    router = ProtocolTypeRouter({"http": pages, "websocket": OwnMiddleware(URLRouter([path("in/", routes)]))})
    monkeypatch.setattr(sys.modules[__name__], "application", router)
    assert [(message.id, message.msg) for message in say()] == [
        (
            "channels.W006",
            "In a URLRouter: test_a_route_that_leads_to_no_application.<locals>.<lambda> is not an ASGI application: "
            "URLRouter cannot route to Django views.",
        ),
        ("channels.W006", "In a URLRouter: OwnConsumer is a consumer class: route OwnConsumer.as_asgi() instead."),
    ]


class OwnConsumer(AsyncWebsocketConsumer):
    """Put into a route without `as_asgi()`."""


def test_workers_application_is_looked_at(say: Say, monkeypatch: pytest.MonkeyPatch):
    worker = ChannelNameRouter({"thumbnails": AuthMiddleware(consumer)})
    monkeypatch.setattr(sys.modules[__name__], "application", ProtocolTypeRouter({"channel": worker}))

    assert only(say(), "E005").msg == NEEDS_SESSION


def test_circle_of_applications_ends(say: Say, monkeypatch: pytest.MonkeyPatch):
    circle = CookieMiddleware(consumer)
    circle.inner = circle
    monkeypatch.setattr(sys.modules[__name__], "application", circle)

    assert say() == []


def test_application_is_not_called(say: Say, monkeypatch: pytest.MonkeyPatch):
    calls: list[tuple[Any, ...]] = []

    async def inner(*args: Any) -> None:
        calls.append(args)

    monkeypatch.setattr(sys.modules[__name__], "application", CookieMiddleware(inner))

    assert say() == []
    assert calls == []


# Channel layers.

MEMORY = {"BACKEND": "channels.layers.InMemoryChannelLayer"}


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ({"default": {"BACKEND": "channels_rediss.core.Layer"}},
         "the BACKEND of CHANNEL_LAYERS['default'], 'channels_rediss.core.Layer', cannot be imported: "
         "No module named 'channels_rediss'"),
        ({"default": MEMORY, "other": {"CONFIG": {}}},
         "CHANNEL_LAYERS['other'] names no BACKEND: add its dotted path"),
        ({"default": {**MEMORY, "ROUTING": "mysite.routing"}},
         "CHANNEL_LAYERS['default'] has a ROUTING key, which belongs to Channels 1: remove it"),
        ({"default": "channels.layers.InMemoryChannelLayer"},
         "CHANNEL_LAYERS['default'] must be a dictionary, not 'channels.layers.InMemoryChannelLayer'"),
        ([MEMORY], f"CHANNEL_LAYERS must be a dictionary, not [{MEMORY!r}]"),
    ],
)  # fmt: skip
def test_layer_without_a_usable_backend(say: Say, layers: Any, text: str):
    message = only(say(CHANNEL_LAYERS=layers), "E006")

    assert message.msg == text
    assert "CHANNEL_LAYERS = " in message.hint


class LayerThatMustNotBeMade(InMemoryChannelLayer):
    def __init__(self, **kwargs: Any) -> None:
        raise AssertionError("made by a check")


def test_layers_are_not_made(say: Say):
    layers = {"default": {"BACKEND": f"{__name__}.LayerThatMustNotBeMade"}}

    assert say(CHANNEL_LAYERS=layers, deploy=True) == []


@pytest.mark.parametrize(
    ("number", "divided"), [("4", True), (" 2 ", True), ("1", False), ("", False), ("many", False)]
)
def test_several_workers_need_a_layer_in_common(say: Say, monkeypatch: pytest.MonkeyPatch, number: str, divided: bool):
    monkeypatch.setenv("WEB_CONCURRENCY", number)

    messages = say()

    assert bool(messages) is divided
    if divided:
        message = only(messages, "W003")
        assert message.msg.startswith(f"{number.strip()} processes serve this site (--workers or WEB_CONCURRENCY), ")
        assert "CHANNEL_LAYERS['default'] is in memory" in message.msg
        assert "fairway.layers.redis.RedisChannelLayer" in message.hint


def test_several_workers_with_another_layer_hear_nothing(say: Say, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WEB_CONCURRENCY", "4")

    assert say(CHANNEL_LAYERS={"default": {"BACKEND": f"{__name__}.LayerThatMustNotBeMade"}}) == []


def test_a_layer_is_tried_only_when_services_are_asked(say: Say):
    port = free_port()
    layers = {
        "default": {
            "BACKEND": "fairway.layers.redis.RedisChannelLayer",
            "CONFIG": {"hosts": [("127.0.0.1", port)]},
        }
    }
    everything = say(CHANNEL_LAYERS=layers, deploy=True, tags=None)
    assert "channels.E009" not in [message.id for message in everything]
    assert say() == say(deploy=True) == say(deploy=True, databases=["default"]) == []
    assert say(databases=["default"], tags=[SERVICES_TAG]) == []

    message = only(say(deploy=True, databases=["default"], tags=[SERVICES_TAG]), "E009")
    assert message in say(deploy=True, databases=["default"], tags=[checks.Tags.database])

    assert re.fullmatch(
        rf"The layer CHANNEL_LAYERS\['default'\] does not work: Redis at 127\.0\.0\.1:{port} is away: .*Connect call "
        rf"failed \('127\.0\.0\.1', {port}\)\.",
        message.msg,
    )
    assert message.hint == "Nothing listens there: start the service, or correct the address."


def test_a_layer_that_works_is_nothing_to_speak_of(say: Say):
    layers = {"default": {"BACKEND": "tests.contracts.foreign.QueueLayer"}}
    assert say(CHANNEL_LAYERS=layers, deploy=True, databases=["default"], tags=[SERVICES_TAG]) == []


def test_deployment_with_a_layer_in_memory(say: Say):
    message = only(say(deploy=True), "W004")

    assert message.msg.startswith("The layer CHANNEL_LAYERS['default'] is in memory: ")


# Limits.


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"PING_INTERVL": 3}, "FAIRWAY has no setting 'PING_INTERVL'; did you mean \"PING_INTERVAL\"?"),
        ({"PING_INTERVAL": 0}, 'FAIRWAY["PING_INTERVAL"] must be more than 0 seconds, not 0'),
        (["PING_INTERVAL"], "FAIRWAY must be a dictionary, not ['PING_INTERVAL']"),
    ],
)
def test_limits_that_the_server_would_refuse(say: Say, value: Any, text: str):
    message = only(say(FAIRWAY=value), "E007")

    assert message.msg == text
    assert message.hint == "`fairway --help` lists the keys of FAIRWAY, as flags, with their units and defaults."


def test_limits_that_are_right_hear_nothing(say: Say):
    assert say(FAIRWAY={"PING_INTERVAL": 3}) == []


def test_settings_of_daphne(say: Say):
    message = only(say(DAPHNE_WEBSOCKET_MAX_MESSAGE_SIZE=5_000_000), "W005")

    assert message.msg == "DAPHNE_WEBSOCKET_MAX_MESSAGE_SIZE has no effect: it is a setting of Daphne."
    assert message.hint == 'Write it as FAIRWAY = {"MAX_MESSAGE_BYTES": 5000000}.'


def test_settings_of_daphne_where_it_is_installed(say: Say, settings: Any, module: Callable[[str], str]):
    module("")
    Path(os.fspath(sys.path[0]), "daphne").mkdir()
    Path(os.fspath(sys.path[0]), "daphne", "__init__.py").touch()

    messages = say(DAPHNE_WEBSOCKET_MAX_FRAME_SIZE=5_000_000, INSTALLED_APPS=[*settings.INSTALLED_APPS, "daphne"])
    del sys.modules["daphne"]  # an empty one: others want the real one

    assert messages == []


# As people meet them.


@pytest.mark.slow
@pytest.mark.parametrize("apps", [["channels", STATICFILES], [STATICFILES, "channels"]])
def test_a_sound_project_passes_wherever_the_app_stands(tmp_path: Path, apps: list[str]):
    done = Project(tmp_path, apps).manage("check", "--fail-level", "WARNING")

    assert (done.returncode, done.stdout) == (0, "System check identified no issues (0 silenced).\n"), done.stderr


@pytest.mark.slow
def test_check_names_every_mistake(tmp_path: Path):
    extra = "FAIRWAY = {'PING_INTERVL': 3}; CHANNEL_LAYERS = {'default': {'BACKEND': 'absent.Layer'}}"
    done = Project(tmp_path, ["channels"], extra).manage("check")

    assert done.returncode == 1
    found = [line.strip().split(" ")[1] for line in done.stderr.splitlines() if line.startswith("?:")]
    assert found == ["(channels.E006)", "(channels.E007)", "(channels.W001)"]
    assert done.stderr.count("HINT:") == 3


@pytest.mark.slow
def test_the_hint_for_a_failed_import_shows_the_traceback(tmp_path: Path):
    project = Project(tmp_path, ["channels"])
    project.write("runsite/asgi.py", "application = misspelt\n")

    hint = re.search(r'manage\.py (shell) (-c) "(.+)"$', project.manage("check").stderr, re.MULTILINE)
    assert hint is not None
    assert "Traceback (most recent call last)" in project.manage(*hint.groups()).stderr


@pytest.mark.slow
def test_check_deploy_speaks_of_the_layer(tmp_path: Path):
    extra = f"{ASGI_APPLICATION}; CHANNEL_LAYERS = {{'default': {MEMORY!r}}}"
    done = Project(tmp_path, ["channels"], extra).manage("check", "--deploy", "--tag", "channels")

    assert done.returncode == 0
    assert "(channels.W004) The layer CHANNEL_LAYERS['default'] is in memory" in done.stderr


def test_the_page_of_checks_names_every_check():
    source = Path(channels.checks.__file__).read_text()
    ids = {f"channels.{number}" for number in re.findall(r'"(?:channels\.)?([EW]\d{3})"', source)}

    assert set(re.findall(r"^\| `(channels\.[EW]\d{3})` \|", (ROOT / "docs/ref/checks.md").read_text(), re.M)) == ids
    assert len(ids) == 20


# What cannot work -------------------------------------------------------------------------------------------------


def wsgi_application(environ: Any, start_response: Any) -> list[bytes]:
    raise NotImplementedError


class InGroups(AsyncWebsocketConsumer):
    groups = ["news"]  # as the documentation writes it


def test_a_wsgi_application_is_an_error(say: Say):
    [message] = say(ASGI_APPLICATION=f"{__name__}.wsgi_application")

    assert message.id == "channels.E008"
    assert message.msg == "ASGI_APPLICATION names a WSGI application: every request fails."


@pytest.mark.parametrize(
    ("routed", "number", "text"),
    [
        (
            lambda: ProtocolTypeRouter({"http": pages, "websockets": consumer}), "W007",
            "ProtocolTypeRouter has an application for 'websockets', a kind of connection that no server has.",
        ),
        (
            lambda: ProtocolTypeRouter({"http": URLRouter([path("/ws/", consumer)])}), "W009",
            "The route '/ws/' of a URLRouter begins with a slash: nothing leads to it.",
        ),
        (
            lambda: ProtocolTypeRouter({"websocket": consumer}), "W011",
            'ProtocolTypeRouter has no application for "http": every page is answered with 404.',
        ),
        (
            lambda: URLRouter([re_path("^/ws/$", consumer)]), "W009",
            "The route '^/ws/$' of a URLRouter begins with a slash: nothing leads to it.",
        ),
        (
            lambda: URLRouter([path("ws/", InGroups.as_asgi())]), "W008",
            "InGroups joins groups, and there is no channel layer 'default': every connection to it fails.",
        ),
    ],
)  # fmt: skip
def test_a_route_that_cannot_work_is_warned_of(
    say: Say, monkeypatch: pytest.MonkeyPatch, routed: Callable[[], Any], number: str, text: str
):
    monkeypatch.setattr(sys.modules[__name__], "application", routed())

    [message] = say(CHANNEL_LAYERS={})
    assert (message.id, message.msg) == (f"channels.{number}", text)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            {"hosts": ["x"]},
            "the CONFIG of CHANNEL_LAYERS['default'] has 'hosts', which its BACKEND does not take; it knows expiry,",
        ),
        (
            {"capasity": 3},
            "the CONFIG of CHANNEL_LAYERS['default'] has 'capasity', which its BACKEND does not take; did you mean",
        ),
        (["hosts"], "the CONFIG of CHANNEL_LAYERS['default'] must be a dictionary, not ['hosts']"),
    ],
)
def test_a_config_that_the_layer_does_not_take_is_an_error(say: Say, config: Any, text: str):
    [message] = say(CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": config}})

    assert message.id == "channels.E006"
    assert message.msg.startswith(text)
