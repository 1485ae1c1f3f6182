"""A test case with a live server, for tests of a whole site in a browser.

`ChannelsLiveServerTestCase` does for ASGI what Django's `LiveServerTestCase` does for WSGI. The server runs in a
process of its own, so that its event loop and the test do not block each other. It uses the test databases.

With the start method "fork", the server's process is a copy of the tests' process. With "spawn" and "forkserver" it
begins empty, and a `ServerEnvironment` gives it the same state: Django is set up, the settings are those of the test
runner and of `override_settings`, and every database is switched to its test database.
"""

from __future__ import annotations

import pickle
import queue
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

import django
from django.conf import Settings, UserSettingsHolder, settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.creation import TEST_DATABASE_PREFIX
from django.test import TransactionTestCase
from django.test.utils import modify_settings, override_settings, setup_test_environment
from django.utils.functional import classproperty

from channels.middleware import Application
from channels.routing import get_default_application

_START_TIMEOUT = 60.0
"""Seconds after which a server that is not ready counts as stuck. The start-up of an application may take less."""

_POLL_INTERVAL = 0.1
"""Seconds between two checks whether a starting server has ended."""

_STOP_TIMEOUT = 10.0
"""Seconds that a server has to stop. After that it is killed, because some thread of the application does not end."""

_RUNNER_SETTINGS = ("ALLOWED_HOSTS", "DEBUG")
"""Settings that the test runner changes in place, without an override."""

_SWITCHED = ("NAME", "USER", "PASSWORD")
"""The keys of a database's settings that differ for its test database. For Oracle, these are user and password."""

# Connections and pools that a forked process shares with its parent. They must not be closed, because this would end
# the parent's sessions at the database.
_abandoned: list[object] = []


class ServerProcess(Protocol):
    """The object that `ProtocolServerProcess` makes: a `multiprocessing.Process`, or an object like it.

    `ready` is an event, which is set when the server accepts connections at `port.value`. `errors` is a queue of
    exceptions with the text of their tracebacks.
    """

    port: Any
    ready: Any
    errors: Any

    def start(self) -> None: ...

    def is_alive(self) -> bool: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    def join(self, timeout: float | None = None) -> None: ...


class ChannelsLiveServerTestCase(TransactionTestCase):
    """Serves the application of `ASGI_APPLICATION` at `live_server_url` while the tests of the class run.

    The server listens at `host`, on a free port. If `serve_static` is true, `static_wrapper` is put around the
    application, and serves static files like `runserver`. `ProtocolServerProcess` makes the process. It is called with
    the host, a function that returns the application, and a function `setup`, which the new process must call first.

    If the server cannot start, the class fails with a RuntimeError that contains the server's traceback.
    """

    host: ClassVar[str] = "localhost"
    static_wrapper: ClassVar[type[Any]] = ASGIStaticFilesHandler
    serve_static: ClassVar[bool] = True

    _server_process: ClassVar[ServerProcess]
    _port: ClassVar[int]

    @classproperty
    def ProtocolServerProcess(cls) -> Callable[..., ServerProcess]:
        """By default `fairway.testing.ServerProcess`. A subclass may set another class."""
        return _server_process_class()

    @property
    def live_server_url(self) -> str:
        """`http://host:port`, without a slash at the end."""
        return f"http://{self._address()}"

    @property
    def live_server_ws_url(self) -> str:
        """`ws://host:port`, without a slash at the end."""
        return f"ws://{self._address()}"

    def _address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self._port}"

    @classmethod
    def setUpClass(cls) -> None:
        """Start the server, and return when it accepts connections."""
        super().setUpClass()
        cls._refuse_databases_in_memory()
        cls.enterClassContext(modify_settings(ALLOWED_HOSTS={"append": cls.host}))
        cls._server_process = cls._start_server()
        cls._port = cls._server_process.port.value

    @classmethod
    def _refuse_databases_in_memory(cls) -> None:
        for alias in sorted(cls.databases):
            if cls._is_in_memory_db(connections[alias]):
                raise ImproperlyConfigured(
                    "ChannelsLiveServerTestCase serves from another process, which cannot see an SQLite database in "
                    f'memory. Let the tests use a file: "TEST": {{"NAME": BASE_DIR / "test.sqlite3"}} in '
                    f'DATABASES["{alias}"].'
                )

    @classmethod
    def _is_in_memory_db(cls, connection: Any) -> bool:
        """Whether other processes cannot see this database. Projects may override this if they make it visible."""
        return connection.vendor == "sqlite" and bool(connection.is_in_memory_db())

    @classmethod
    def _start_server(cls) -> ServerProcess:
        get_application = partial(make_application, static_wrapper=cls.static_wrapper if cls.serve_static else None)
        process = cls.ProtocolServerProcess(cls.host, get_application, setup=ServerEnvironment(cls.databases))
        process.start()
        cls.addClassCleanup(_stop, process)
        _wait_until_ready(process)
        return process


def _server_process_class() -> Callable[..., ServerProcess]:
    # Imported only when it is needed, because communicators need no server.
    from fairway.testing.process import ServerProcess

    return ServerProcess


DaphneProcess: Callable[..., ServerProcess]
"""The name of the class in Channels. Fixtures that start their own server import it from this module."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name == "DaphneProcess":
            return _server_process_class()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def make_application(*, static_wrapper: Callable[[Any], Any] | None) -> Application:
    """Return the application of `ASGI_APPLICATION`, inside the wrapper if there is one."""
    application = get_default_application()
    return application if static_wrapper is None else cast(Application, static_wrapper(application))


def set_database_connection(databases: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Switch all configured databases of this process to their test databases. Inherited connections stay open.

    `databases` has the changed keys of each alias, such as `{"default": {"NAME": "test_site_2"}}`. An alias that is not
    in it gets the name in its `TEST` settings, or otherwise its own name with the prefix of Django's test databases.
    """
    for connection in connections.all(initialized_only=True):
        pools: dict[str, object] = getattr(connection, "_connection_pools", {})
        _abandoned.extend([connection, pools.pop(connection.alias, None)])
        del connections[connection.alias]
    for alias in connections:
        connections.settings[alias].update((databases or {}).get(alias) or {"NAME": _test_name(alias)})


def _test_name(alias: str) -> Any:
    test = connections.settings[alias]["TEST"]
    if test["MIRROR"]:
        return _test_name(test["MIRROR"])
    name = str(connections.settings[alias]["NAME"])
    if not test["NAME"] and name.startswith(TEST_DATABASE_PREFIX):
        return name  # a fork's is switched already
    return cast(Any, connections[alias].creation)._get_test_db_name()


class ServerEnvironment:
    """The state that the server's process takes over from the tests' process. Calling it there applies the state.

    Only the databases that the test may use are taken over as they are. The others may not have a test database, and a
    server in a test must never use the real database.
    """

    def __init__(self, databases: Iterable[str]) -> None:
        self._databases = {alias: _differences(connections[alias]) for alias in databases}
        self._has_settings_module = True
        self._pickled_settings: bytes | None = None

    def __getstate__(self) -> dict[str, Any]:
        values, has_module = _overridden_settings()
        # Pickled separately, because values may have classes that cannot be imported before Django is set up.
        return {**self.__dict__, "_has_settings_module": has_module, "_pickled_settings": _pickled(values)}

    def __call__(self) -> None:
        """Set up Django and the settings if the process has begun empty. Then switch the databases."""
        if self._pickled_settings is not None:
            self._set_up_django(self._pickled_settings)
        set_database_connection(self._databases)

    def _set_up_django(self, pickled_settings: bytes) -> None:
        if self._has_settings_module:
            django.setup()
            values = pickle.loads(pickled_settings)
        else:
            values = pickle.loads(pickled_settings)
            settings.configure(**values)
            django.setup()
        # As in the tests' process, so that the server does not send e-mails.
        setup_test_environment(debug=values["DEBUG"])
        override_settings(**values).enable()


def _differences(connection: BaseDatabaseWrapper) -> dict[str, Any]:
    return {key: connection.settings_dict[key] for key in _SWITCHED}


def _overridden_settings() -> tuple[dict[str, Any], bool]:
    """The settings that differ from the settings module, with their values, and whether there is such a module."""
    found: dict[str, Any] = {}
    holder = settings._wrapped
    while isinstance(holder, UserSettingsHolder):
        found = {name: value for name, value in vars(holder).items() if name.isupper()} | found
        holder = holder.default_settings
    return {name: getattr(settings, name) for name in _RUNNER_SETTINGS} | found, isinstance(holder, Settings)


def _pickled(values: dict[str, Any]) -> bytes:
    for name, value in values.items():
        try:
            pickle.dumps(value)
        except Exception as error:
            raise ImproperlyConfigured(
                f"The setting {name} is overridden with a value that cannot be pickled, so the live server's process "
                f"cannot be given it: {error}. Put it into the settings module, or use values that can be pickled."
            ) from error
    return pickle.dumps(values)


def _wait_until_ready(process: ServerProcess) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while not process.ready.wait(_POLL_INTERVAL):
        is_alive = process.is_alive()  # before the errors are read, so that the last one is not missed
        _raise_error(process)
        if not is_alive:
            code = getattr(process, "exitcode", None)
            raise RuntimeError(
                f"The live server's process ended with exit code {code} before it was ready. If it wrote that it was "
                'started before its parent had loaded, put `if __name__ == "__main__":` into the script that runs the '
                "tests, as in Django's manage.py."
            )
        if time.monotonic() > deadline:
            raise RuntimeError(f"The live server is not ready after {_START_TIMEOUT:g} seconds, and reports no error.")


def _raise_error(process: ServerProcess) -> None:
    try:
        error, text = process.errors.get_nowait()
    except queue.Empty:
        return
    raise RuntimeError(f"The live server did not start. Its process says:\n\n{text}") from error


def _stop(process: ServerProcess) -> None:
    process.terminate()
    process.join(_STOP_TIMEOUT)
    if process.is_alive():
        process.kill()
        process.join()
