"""`--reload`: changed files make the supervisor load the application anew, during development.

watchfiles (the extra `reload`) watches the folders, in a thread of the supervisor. Changes that follow each other
within a tenth of a second are one change. What counts as a change: see `counts`.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from fairway.logs import get_logger, printable
from fairway.server.limits import ConfigurationError

logger = get_logger("fairway.server")

_STEP_MS = 100
_LONGEST_MS = 2000
_SHOWN = 2

_TEMPLATES = "templates"
_OF_OTHERS = frozenset({"__pycache__", "env", "node_modules", "site-packages", "venv"})
"""Folders with code that is not the project's."""

Watch: TypeAlias = Callable[..., Iterable[set[tuple[Any, str]]]]
"""`watchfiles.watch`."""


def counts(path: str, patterns: Sequence[str] = ()) -> bool:
    """Whether a change of this file is a reason to reload. `path` is relative to the folder that is watched.

    Python files are, and everything in a folder called `templates`, because Django keeps templates that it has loaded.
    `patterns` name further files. Hidden files and folders, and those that are not the project's, are not.
    """
    *folders, name = Path(path).parts
    if any(one.startswith(".") or one in _OF_OTHERS for one in folders):
        return False
    if any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
        return True
    is_temporary = name.startswith(".") or name.endswith("~")
    return not is_temporary and (name.endswith(".py") or _TEMPLATES in folders)


def told(names: Sequence[str]) -> str:
    """Which files have changed, in a few words."""
    more = len(names) - _SHOWN
    rest = f" and {more} more" if more > 0 else ""
    return f"{', '.join(names[:_SHOWN])}{rest} changed"


class Reloader:
    """Watches folders. Raises `ConfigurationError` if watchfiles is missing, or if there is no such folder."""

    def __init__(self, folders: Sequence[str] = (), patterns: Sequence[str] = (), watch: Watch | None = None) -> None:
        self._watch = watch or _watchfiles()
        # The events of a watched link have the path of what it leads to.
        self._folders = [os.path.realpath(folder) for folder in folders or ["."]]
        for folder in self._folders:
            if not os.path.isdir(folder):
                raise ConfigurationError(f"--reload-dir {folder}: there is no such folder")
        self._patterns = tuple(patterns)

    @contextlib.contextmanager
    def changes(self) -> Iterator[socket.socket]:
        """Watch inside the block. Each read from the socket says what has changed, as text for the log."""
        reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        writing.setblocking(False)
        stop = threading.Event()
        thread = threading.Thread(target=self._tell, args=(writing, stop), name="fairway reload", daemon=True)
        thread.start()
        try:
            yield reading
        finally:
            stop.set()
            thread.join(1.0)
            reading.close()
            writing.close()

    def _tell(self, writing: socket.socket, stop: threading.Event) -> None:
        seen = self._watch(
            *self._folders,
            watch_filter=lambda _, path: self._relative(path) is not None,
            step=_STEP_MS,
            debounce=_LONGEST_MS,
            stop_event=stop,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )
        try:
            for some in seen:
                names = {name for _, path in some if (name := self._relative(path)) is not None}
                # If the socket is full, the supervisor has been told already. If it is closed, nobody wants to know.
                with contextlib.suppress(OSError):
                    writing.send(printable(told(sorted(names)), 200).encode())
        except Exception as error:  # the limit of inotify, for example
            logger.error("files are not watched any more: %s", printable(str(error)))

    def _relative(self, path: str) -> str | None:
        """The path below its folder, if the file counts. A project may be inside a hidden folder, or one called env."""
        names = [path[len(folder) + 1 :] for folder in self._folders if path.startswith(folder + os.sep)]
        return next((name for name in names if counts(name, self._patterns)), None)


def _watchfiles() -> Watch:
    try:
        import watchfiles
    except ImportError:
        raise ConfigurationError("--reload needs watchfiles: pip install watchfiles") from None
    return watchfiles.watch
