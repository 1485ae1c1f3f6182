"""Find the application that a command line names: `package.module:attribute.path`.

The current directory is importable, as it is under `python manage.py` and under uvicorn. What goes wrong is one
sentence; only an exception inside the application's own modules also has a traceback worth showing.
"""

from __future__ import annotations

import importlib
import os
import sys
from difflib import get_close_matches
from types import ModuleType
from typing import Any


class AppImportError(Exception):
    """The application cannot be found. `__cause__` is the error raised by its own code, or None."""


def load_app(target: str) -> Any:
    """Import the module, follow the attributes and return what is there, which is callable.

    Puts the current directory at the head of `sys.path` if it is not on it. Raises `AppImportError`.
    """
    module_name, colon, path = target.partition(":")
    if not colon or not module_name or not path:
        raise AppImportError(f'"{target}" does not name an application: write {_suggestion(target)}')
    if module_name.startswith("."):
        raise AppImportError(f'"{module_name}" is a relative name: write {_suggestion(target)}')
    if "/" in module_name or "\\" in module_name or module_name.endswith(".py"):
        raise AppImportError(f'"{module_name}" is a file: write {_suggestion(target)}')
    directory = os.getcwd()
    if directory not in sys.path and "" not in sys.path:
        sys.path.insert(0, directory)
    app: Any = _import(module_name)
    for name in path.split("."):
        app = _attribute(app, name, module_name)
    if not callable(app):
        kind = type(app).__name__
        raise AppImportError(f'"{target}" is of type {kind}, which cannot be called: name an ASGI application')
    return app


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Either a part of the name itself is missing, or an import inside one of these modules failed.
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise AppImportError(
                f'there is no module "{error.name}": is {os.getcwd()} the directory that has manage.py in it?'
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
    module_name = module_name.replace("\\", "/").removesuffix(".py").replace("/", ".").strip(".")
    return f'"{module_name or "mysite.asgi"}:{path or "application"}"'


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
