"""System checks, run by `manage.py check` and before most other commands, tagged `channels`.

The checks import the application that `ASGI_APPLICATION` names, as Django's own checks import the URLconf. They examine
its routers and middlewares without calling them. The application is imported when the checks run, never while apps are
loaded. If the application is being imported at that time, because it runs a command itself, it is not checked.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any

import django
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError

from channels.auth import AuthMiddleware
from channels.exceptions import InvalidChannelLayerError
from channels.layers import channel_layers
from channels.routing import ProtocolTypeRouter, URLRouter, leaves, mistake_in
from channels.sessions import CookieMiddleware, SessionMiddleware
from fairway.asgi.calling import is_wsgi
from fairway.doctor.doctor import CONFLICT_HINT, conflicts
from fairway.layers.trial import Outcome, tried
from fairway.settings import DIVIDED_HINT, divided_layers, in_memory_aliases, limits_problem

TAG = "channels"
SERVICES_TAG = "channels_layers"

OLDEST_DJANGO = (5, 2)

_DEEPEST = 20
"""How many nested applications the checks examine."""

_LAYER_HINT = 'Write it as CHANNEL_LAYERS = {"default": {"BACKEND": "dotted.path.of.the.Layer", "CONFIG": {...}}}.'

_SETTINGS_OF_DAPHNE = {
    "DAPHNE_WEBSOCKET_MAX_MESSAGE_SIZE": "MAX_MESSAGE_BYTES",
    "DAPHNE_WEBSOCKET_MAX_FRAME_SIZE": "MAX_FRAME_BYTES",
}


def register_checks() -> None:
    """Register all checks. The app `channels` does this when it is ready."""
    for check in (
        check_django_version,
        check_asgi_application,
        check_routes,
        check_channel_layers,
        check_workers,
        check_limits,
        check_settings_of_daphne,
        check_installation,
    ):
        register(check, TAG)
    register(check_deployed_layers, TAG, deploy=True)
    # Django leaves out what has the tag of databases unless `--database` or a tag asks for it. With `TAG` as well,
    # Django 6.1 would let `--tag channels` connect, because it then passes all databases.
    register(check_that_layers_work, Tags.database, SERVICES_TAG, deploy=True)


def check_django_version(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E001: Django is older than the oldest version that works."""
    if django.VERSION[:2] >= OLDEST_DJANGO:
        return []
    oldest = ".".join(map(str, OLDEST_DJANGO))
    text = f"Django {django.get_version()} is too old: Django {oldest} is the oldest version that works."
    return [_error("E001", text, f'Run: pip install "Django>={oldest}"')]


def check_asgi_application(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check the application that `ASGI_APPLICATION` names.

    W001: not set. E002: not a dotted path. E003: cannot be imported; W002 if that is because a database is not ready,
    as before the first `migrate`. E004: no application there. E005: a middleware needs another middleware around it,
    which is missing. E008: it is a WSGI application. W006: a route does not lead to an application.
    """
    application, messages = _find_application()
    if is_wsgi(application):
        return [_error("E008", "ASGI_APPLICATION names a WSGI application: every request fails.", _path_hint())]
    for mistake in dict.fromkeys(_mistakes(application, ())):
        hint = "Whoever comes to this route is refused. Route the application, which for a consumer is its as_asgi()."
        messages.append(Warning(f"In a URLRouter: {mistake}.", hint=hint, id="channels.W006"))
    # An application that stands in several places is named once.
    faults = dict.fromkeys(_faults(application, frozenset(), ()))
    return messages + [
        _error(
            "E005",
            f"{middleware} is not inside of {needed}: every connection that reaches it fails.",
            f"Wrap your application in {stack}, which has them in their order.",
        )
        for middleware, needed, stack in faults
    ]


def check_routes(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check the routers of `ASGI_APPLICATION` for mistakes.

    W007: a type of connection that no server has. W008: a consumer with `groups`, but no channel layer. W009: a route
    that begins with a slash. W011: no application for HTTP.
    """
    application, _ = _find_application()
    # An application that stands in several places is named once.
    found = dict.fromkeys(text for one in _all_inside(application, ()) for text in _oddities(one))
    messages: list[CheckMessage] = [Warning(text, hint=hint, id=f"channels.{number}") for number, text, hint in found]
    kinds = application.application_mapping if isinstance(application, ProtocolTypeRouter) else {}
    if "websocket" in kinds and "http" not in kinds:
        text = 'ProtocolTypeRouter has no application for "http": every page is answered with 404.'
        hint = 'Add "http": get_asgi_application(). If another server has the pages, silence this check.'
        messages.append(Warning(text, hint=hint, id="channels.W011"))
    return messages


def check_channel_layers(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E006: an entry of `CHANNEL_LAYERS` names no usable backend. The backend is imported, but not made."""
    configs: Any = channel_layers.configs
    if not isinstance(configs, Mapping):
        return [_layer_error(f"CHANNEL_LAYERS must be a dictionary, not {configs!r}")]
    return [_layer_error(problem) for alias in configs if (problem := _layer_problem(alias)) is not None]


def check_workers(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W003: several processes serve the site, and a layer is in memory."""
    return [Warning(text, hint=DIVIDED_HINT, id="channels.W003") for text in divided_layers()]


def check_deployed_layers(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W004, with `--deploy`: a layer is in memory, so no other process reaches it."""
    return [
        Warning(
            f"The layer CHANNEL_LAYERS[{alias!r}] is in memory: what a second worker, a management command or a task "
            "queue sends to it reaches nobody.",
            hint="Configure a layer that processes share, such as fairway.layers.redis.RedisChannelLayer; where one "
            "process is all there is, silence this with SILENCED_SYSTEM_CHECKS.",
            id="channels.W004",
        )
        for alias in in_memory_aliases()
    ]


def check_that_layers_work(app_configs: Any, databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """E009, with `--deploy` and `--database`: a layer does not work when it is tried.

    Like Django's check of databases, this connects to services only with `--database`, because checks must also work
    where the services do not run.
    """
    if databases is None:
        return []
    return [
        _error(
            "E009",
            f"The layer CHANNEL_LAYERS[{alias!r}] does not work: {outcome.problem}.",
            f"{outcome.advice[:1].upper()}{outcome.advice[1:]}.",
        )
        for alias, outcome in tried_layers()
        if outcome.problem
    ]


def tried_layers() -> Iterator[tuple[str, Outcome]]:
    """Try each configured layer: make it, send, receive, and close it."""
    for alias in channel_layers.configs:
        try:
            layer_class = channel_layers.backend_class(alias)
        except InvalidChannelLayerError as error:
            yield alias, Outcome(str(error), _LAYER_HINT)
        else:
            yield alias, tried(layer_class, channel_layers.configs[alias].get("CONFIG", {}))


def check_limits(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E007: `FAIRWAY` has an unknown key or an invalid value, so the server would not start."""
    problem = limits_problem()
    hint = "`fairway --help` lists the keys of FAIRWAY, as flags, with their units and defaults."
    return [] if problem is None else [_error("E007", problem, hint)]


def check_settings_of_daphne(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W005: the project has a setting of Daphne, but Daphne is not installed."""
    if apps.is_installed("daphne"):
        return []
    return [
        Warning(
            f"{name} has no effect: it is a setting of Daphne.",
            hint=f'Write it as FAIRWAY = {{"{key}": {getattr(settings, name)!r}}}.',
            id="channels.W005",
        )
        for name, key in _SETTINGS_OF_DAPHNE.items()
        if hasattr(settings, name)
    ]


def check_installation(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W010: another distribution also has files in `channels/`."""
    return [Warning(text, hint=CONFLICT_HINT, id="channels.W010") for text in conflicts()]


# Finding the configured application.


def _find_application() -> tuple[Any, list[CheckMessage]]:
    """Return the application, or None and what is wrong with it. Return neither while it is being imported."""
    path = getattr(settings, "ASGI_APPLICATION", None)
    if not path:
        return None, [_not_set()]
    module_name, _, attribute = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    if not module_name or not attribute:
        return None, [_error("E002", f"ASGI_APPLICATION is {path!r}, which is not a dotted path.", _path_hint())]
    if _is_being_imported(module_name):
        return None, []
    try:
        module = import_module(module_name)
    except Exception as error:
        return None, [_import_message(module_name, error)]
    return _attribute(module, attribute)


def _not_set() -> CheckMessage:
    return Warning(
        "ASGI_APPLICATION is not set: runserver and runworker do not know what to run.",
        hint=_path_hint(),
        id="channels.W001",
    )


def _path_hint() -> str:
    # The settings module of a project is nearly always beside its asgi module.
    package = (getattr(settings, "SETTINGS_MODULE", None) or "mysite.settings").split(".")[0]
    return f'Name the application of the project, such as ASGI_APPLICATION = "{package}.asgi.application".'


def _is_being_imported(name: str) -> bool:
    module = sys.modules.get(name)
    # Python uses this private attribute to report circular imports.
    return getattr(getattr(module, "__spec__", None), "_initializing", False) is True


def _import_message(module_name: str, error: Exception) -> CheckMessage:
    if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
        return _error("E003", f"ASGI_APPLICATION: there is no module {error.name!r}.", _path_hint())
    text = f"ASGI_APPLICATION: {module_name!r} cannot be imported: {type(error).__name__}: {error} ({_place(error)})."
    if isinstance(error, DatabaseError):
        hint = "It asks the database while it is imported, which fails until the database is ready; ask it later."
        return Warning(text, hint=hint, id="channels.W002")
    return _error("E003", text, f'See the whole traceback with: manage.py shell -c "import {module_name}"')


def _place(error: Exception) -> str:
    """Return where the error was raised: the innermost line that is not part of the import machinery."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = [frame for frame in extract_tb(error.__traceback__) if "importlib" not in Path(frame.filename).parts]
    frames = [frame for frame in frames if not frame.filename.startswith("<") and frame.filename != __file__]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else "no line is known"


def _attribute(module: ModuleType, name: str) -> tuple[Any, list[CheckMessage]]:
    where = f"ASGI_APPLICATION: the module {module.__name__!r}"
    if not hasattr(module, name):
        near = get_close_matches(name, dir(module), n=1)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        return None, [_error("E004", f"{where} has no attribute {name!r}.{guess}", _path_hint())]
    application = getattr(module, name)
    if not callable(application):
        kind = type(application).__name__
        return None, [_error("E004", f"{where} has {name!r} of type {kind}, which cannot be called.", _path_hint())]
    return application, []


def _error(number: str, text: str, hint: str) -> CheckMessage:
    return Error(text, hint=hint, id=f"channels.{number}")


# The keys that middlewares read from the scope, and the middleware that adds each.

_GIVES: dict[type, str] = {CookieMiddleware: "cookies", SessionMiddleware: "session"}
_NEEDS: dict[type, tuple[str, type, str]] = {
    SessionMiddleware: ("cookies", CookieMiddleware, "SessionMiddlewareStack"),
    AuthMiddleware: ("session", SessionMiddleware, "AuthMiddlewareStack"),
}


def _faults(application: Any, given: frozenset[str], around: tuple[int, ...]) -> Iterator[tuple[str, str, str]]:
    """Yield the middlewares of this package that lack another one: their name, what is missing, and a stack with both.

    Subclasses, and applications inside other projects' middlewares, are not checked, because they may add any key to
    the scope.
    """
    kind = type(application)
    if kind.__module__.partition(".")[0] != "channels" or id(application) in around:
        return
    if kind in _NEEDS:
        key, giver, stack = _NEEDS[kind]
        if key not in given:
            yield kind.__name__, giver.__name__, stack
    if kind in _GIVES:
        given |= {_GIVES[kind]}
    for inner in _inside(application):
        yield from _faults(inner, given, (*around, id(application)))


def _mistakes(application: Any, around: tuple[int, ...]) -> Iterator[str]:
    """Yield what is wrong with the routes of an application, also inside other projects' middlewares."""
    if id(application) in around or len(around) > _DEEPEST:
        return
    if isinstance(application, URLRouter):
        yield from filter(None, map(mistake_in, leaves(application.routes)))
    for inner in _inside(application):
        yield from _mistakes(inner, (*around, id(application)))


def _all_inside(application: Any, around: tuple[int, ...]) -> Iterator[Any]:
    """Yield the application and all applications inside it. Do not look into classes of other packages.

    An application that is reached in two ways is yielded twice.
    """
    if application is None or id(application) in around:
        return
    yield application
    if type(application).__module__.partition(".")[0] == "channels":
        for inner in _inside(application):
            yield from _all_inside(inner, (*around, id(application)))


_KINDS = ("http", "websocket", "lifespan", "channel")


def _oddities(application: Any) -> Iterator[tuple[str, str, str]]:
    """Yield the number, sentence and hint of each warning about one application."""
    if isinstance(application, ProtocolTypeRouter):
        for kind in application.application_mapping:
            near = get_close_matches(kind, _KINDS, n=1) if isinstance(kind, str) else []
            if kind not in _KINDS and near:
                text = f"ProtocolTypeRouter has an application for {kind!r}, a kind of connection that no server has."
                yield "W007", text, f"Did you mean {near[0]!r}?"
    for pattern in leaves(getattr(application, "routes", ())):
        written = str(pattern.pattern)
        if written.startswith(("/", "^/")):
            hint = "Remove the slash: the path that is matched begins after its first one."
            yield "W009", f"The route {written!r} of a URLRouter begins with a slash: nothing leads to it.", hint
    consumer: Any = getattr(application, "consumer_class", None)
    groups = getattr(consumer, "groups", None)
    alias = getattr(consumer, "channel_layer_alias", None)
    if groups and isinstance(alias, str) and alias not in channel_layers:
        what = f"{consumer.__name__} joins groups, and there is no channel layer {alias!r}"
        yield "W008", f"{what}: every connection to it fails.", _LAYER_HINT


def _inside(application: Any) -> Iterator[Any]:
    """Yield the applications that this one passes connections to: the values of its attributes with known names."""
    mapping = getattr(application, "application_mapping", None)
    if isinstance(mapping, Mapping):
        yield from mapping.values()
    if isinstance(application, URLRouter):
        yield from (pattern.callback for pattern in leaves(application.routes))
    inner = getattr(application, "inner", None) or getattr(application, "application", None)
    if inner is not None:
        yield inner


# The entries of CHANNEL_LAYERS.


def _layer_problem(alias: str) -> str | None:
    try:
        backend = channel_layers.backend_class(alias)
    except InvalidChannelLayerError as error:
        return str(error)
    config = channel_layers.configs[alias].get("CONFIG", {})
    if not isinstance(config, Mapping):
        return f"the CONFIG of CHANNEL_LAYERS[{alias!r}] must be a dictionary, not {config!r}"
    known = _arguments(backend)
    unknown = [key for key in config if known and key not in known]
    if not unknown:
        return None
    near = get_close_matches(str(unknown[0]), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(known)}"
    return f"the CONFIG of CHANNEL_LAYERS[{alias!r}] has {unknown[0]!r}, which its BACKEND does not take; {hint}"


def _arguments(backend: Any) -> list[str]:
    """The names of the constructor arguments of a layer's class. Empty if it may accept any name."""
    known: list[str] = []
    for one in getattr(backend, "__mro__", ()):
        if "__init__" in one.__dict__:
            parameters = signature(one.__init__).parameters.values()
            known += [each.name for each in parameters if each.kind in _NAMED and each.name != "self"]
            if not any(each.kind is Parameter.VAR_KEYWORD for each in parameters):
                return known
            # Our own classes pass unknown arguments to the next class. Other classes may do anything with them.
            if one.__module__.partition(".")[0] not in ("channels", "fairway"):
                return []
    return []


_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def _layer_error(problem: str) -> CheckMessage:
    return _error("E006", problem, _LAYER_HINT)
