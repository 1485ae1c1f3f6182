"""`manage.py runworker CHANNEL ...`: handles the messages of named channels, in a process without a server.

With `--reload`, the worker runs in a thread, and the process is restarted when code changes, as for Django's
`runserver`. Without it, as in production, no files are watched.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import autoreload

from channels import DEFAULT_CHANNEL_LAYER
from channels.consumer import AsyncConsumer
from channels.layers import InMemoryChannelLayer, get_channel_layer
from channels.routing import get_default_application
from channels.worker import Worker
from fairway.departure import Departure
from fairway.layers.outage import MISTAKES
from fairway.logs import get_logger, set_up
from fairway.standard_streams import open_missing

logger = get_logger("django.channels.worker")

_RELOAD_TIMEOUT = 2.0
"""Seconds that handlers have to end before the reloader restarts the process."""

_STOP_TIMEOUT = 2 * _RELOAD_TIMEOUT + 1.0
"""Seconds that the main thread waits for the worker's thread, including the time for cancelling."""

_ALONE = (
    "The in-memory layer does not reach other processes: this worker gets only what its own consumers send. "
    "Configure another layer in CHANNEL_LAYERS."
)


class Command(BaseCommand):
    """Makes a worker of `worker_class`, and runs it."""

    help = "Handles the messages of named channels, with the application that ASGI_APPLICATION names."
    leave_locale_alone = True
    worker_class: type[Worker] = Worker

    worker: Worker | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        """Open the standard streams that are closed before Django takes them for its output."""
        open_missing()
        super().__init__(*args, **options)

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--layer",
            default=DEFAULT_CHANNEL_LAYER,
            help="Alias of the channel layer in CHANNEL_LAYERS (default: %(default)s).",
        )
        parser.add_argument(
            "--concurrency",
            type=_positive,
            metavar="N",
            help="Handlers that may run at once for each channel (default: 1, which keeps the order).",
        )
        parser.add_argument(
            "--reload",
            action="store_true",
            help="Start again when code has changed, as runserver does. For development.",
        )
        parser.add_argument("channels", nargs="+", metavar="channel", help="Names of channels to listen to.")

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command as the owner of the process, so that no handler can prevent its end or its restart."""
        with Departure().at_the_end():
            super().run_from_argv(argv)

    def get_check_kwargs(self, options: dict[str, Any]) -> Any:
        """With the reloader, skip the checks for now: the process must survive an error in the code, and wait for a
        change.
        """
        return {"tags": set()} if options["reload"] else super().get_check_kwargs(options)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until a signal comes. Raises `CommandError` if there is no layer, or if it is used wrongly."""
        self.verbosity = options.get("verbosity", 1)
        self.channel_layer = get_channel_layer(options["layer"])
        if self.channel_layer is None:
            raise CommandError(f"There is no channel layer {options['layer']!r}: configure it in CHANNEL_LAYERS.")
        if isinstance(self.channel_layer, InMemoryChannelLayer):
            self.stderr.write(self.style.WARNING(_ALONE))
        with _layer_of_consumers(options["layer"]):
            if options["reload"]:
                self._run_with_reloader(options)
            else:
                self.inner_run(options)

    def inner_run(self, options: dict[str, Any]) -> None:
        """Make the worker, and run it until it ends."""
        self.worker = self.make_worker(options)
        set_up()  # not earlier: importing the application has configured logging again
        logger.info("Worker listens to %s", ", ".join(self.worker.channels))
        try:
            self.worker.run()
        except (*MISTAKES, ValueError, LookupError) as error:
            raise CommandError(f"{type(error).__name__}: {error} (--traceback shows where)") from error

    def make_worker(self, options: dict[str, Any]) -> Worker:
        try:
            application = get_default_application()
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        worker = self.worker_class(
            application=application, channels=options["channels"], channel_layer=self.channel_layer
        )
        if options.get("concurrency"):
            worker.concurrency = options["concurrency"]
        if options["reload"]:
            worker.shutdown_timeout = _RELOAD_TIMEOUT
        return worker

    def _run_with_reloader(self, options: dict[str, Any]) -> None:
        self._ended = threading.Event()
        self._ended.set()
        try:
            autoreload.run_with_reloader(self._run_in_thread, options)
        finally:
            # Without this, the worker's thread would be killed in the middle of a handler.
            if self.worker is not None:
                self.worker.stop()
            self._ended.wait(_STOP_TIMEOUT)

    def _run_in_thread(self, options: dict[str, Any]) -> None:
        self._ended.clear()
        try:
            _import_application()
            if not options["skip_checks"]:
                checks: Any = super().get_check_kwargs(options)
                self.check(**checks, display_num_errors=True)
            self.inner_run(options)
        except CommandError as error:
            self.stderr.write(f"{error}\nWaiting for a change of the code.")
        finally:
            self._ended.set()


def _import_application() -> None:
    """Import the application. Errors are raised, so that the reloader knows which file to watch, even if it was not
    loaded.
    """
    try:
        get_default_application()
    except ImproperlyConfigured as error:
        raise error.__cause__ or error from None


@contextmanager
def _layer_of_consumers(alias: str) -> Iterator[None]:
    """Inside the block, this is the layer of all consumer classes that do not choose one."""
    before = AsyncConsumer.channel_layer_alias
    AsyncConsumer.channel_layer_alias = alias
    try:
        yield
    finally:
        AsyncConsumer.channel_layer_alias = before


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number of at least 1, not {text!r}")
    return int(text)
