"""Finds the application that a command line names: `package.module:attribute.path`.

The current directory is importable, as it is under `python manage.py` and under uvicorn. Every failure is one sentence.
Only an exception inside the application's own modules has a traceback worth showing.
"""

from __future__ import annotations

import importlib
import os
import sys
from difflib import get_close_matches
from types import ModuleType, TracebackType
from typing import Any

from fairway.asgi.calling import is_wsgi
from fairway.logs import traceback_text

_DOCTOR = "doctor"
"""A command that may stand in an application's place."""


class AppImportError(Exception):
    """The application cannot be found. `__cause__` is the error that its own code raised, or None."""


def load_app(target: str) -> Any:
    """Import the module, follow the attributes, and return the callable found there. Raises `AppImportError`.

    Puts the current directory at the head of `sys.path`, unless it is on it already.
    """
    module_name, colon, path = target.partition(":")
    if (colon and not path) or not module_name:
        raise AppImportError(f'"{target}" does not name an application: write {_suggestion(target)}')
    if module_name.startswith("."):
        raise AppImportError(f'"{module_name}" is a relative name: write {_suggestion(target)}')
    if "/" in module_name or "\\" in module_name or module_name.endswith(".py"):
        what = f'"{module_name}" is a file' if colon else f'"{target}" does not name an application'
        raise AppImportError(f"{what}: write {_suggestion(target)}")
    directory = current_directory()
    if directory not in sys.path and "" not in sys.path:
        sys.path.insert(0, directory)
    app: Any
    if colon:
        app = _import(module_name)
    else:
        app, module_name, path = _find(target)
    for name in path.split("."):
        app = _attribute(app, name, module_name)
    if not callable(app):
        kind = type(app).__name__
        raise AppImportError(f'"{target}" is of type {kind}, which cannot be called: name an ASGI application')
    if is_wsgi(app):
        raise AppImportError(
            f'"{target}" is a WSGI application: name the ASGI one, which usually stands in asgi.py beside it'
        )
    return app


def current_directory() -> str:
    """The path of the current directory. Raises `AppImportError` if it has been removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise AppImportError("the current directory has been removed: change to one that exists") from None


def _find(target: str) -> tuple[ModuleType, str, str]:
    """The module, its name and the attribute for a target without a colon: a bare module, or a dotted path."""
    before, _, last = target.rpartition(".")
    for module_name, path in ((target, "application"), (before, last)):
        try:
            if module_name:
                return _import(module_name), module_name, path
        except AppImportError as error:
            if error.__cause__ is not None:
                raise
    if get_close_matches(target, [_DOCTOR], n=1, cutoff=0.7):
        raise AppImportError(f'"{target}" does not name an application: did you mean {_DOCTOR}?')
    raise AppImportError(f'"{target}" does not name an application: write {_suggestion(target)}')


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Either a part of the name itself does not exist, or an import inside one of the modules has failed.
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise AppImportError(
                f'there is no module "{error.name}": is {current_directory()} the directory that has manage.py in it?'
            ) from None
        raise AppImportError(f'"{name}" cannot be imported: {_sentence(error)}') from error
    except Exception as error:
        raise AppImportError(f'"{name}" cannot be imported: {_sentence(error)}') from error


def _attribute(holder: Any, name: str, module_name: str) -> Any:
    try:
        return getattr(holder, name)
    except AttributeError:
        near = get_close_matches(name, dir(holder), n=1)
        hint = f': did you mean "{near[0]}"?' if near else ""
        raise AppImportError(f'the module "{module_name}" has no attribute "{name}"{hint}') from None


def _suggestion(target: str) -> str:
    module_name, _, path = target.partition(":")
    if not path and module_name.endswith((".application", ".app")):
        module_name, _, path = module_name.rpartition(".")
    module_name = module_name.replace("\\", "/").removesuffix(".py").replace("/", ".").strip(".")
    return f'"{module_name or "mysite.asgi"}:{path or "application"}"'


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def traceback_of_import(error: BaseException) -> str:
    """The traceback through the application's own code, without the frames of the import machinery."""
    one: BaseException | None = error
    seen: set[int] = set()
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        one.__traceback__ = _without_machinery(one.__traceback__)
        one = one.__cause__ or one.__context__
    return traceback_text(error)


def _without_machinery(traceback: TracebackType | None) -> TracebackType | None:
    kept: TracebackType | None = None
    frames = []
    while traceback is not None:
        frames.append(traceback)
        traceback = traceback.tb_next
    for frame in reversed(frames):
        name = frame.tb_frame.f_code.co_filename
        if name != __file__ and not name.startswith("<frozen importlib") and name != importlib.__file__:
            kept = TracebackType(kept, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return kept
