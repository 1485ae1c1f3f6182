"""`manage.py runserver`: Channels', with Daphne's settings, and the two options of Daphne's that it lacks."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, cast

from django.conf import settings
from django.core.management.base import CommandParser

from channels.management.commands.runserver import Command as ChannelsCommand
from daphne.timeouts import TimeLimits

# Option of the command, and setting for where it is not given; 0 is no limit.
_SIZES = {
    "max_message_bytes": "DAPHNE_WEBSOCKET_MAX_MESSAGE_SIZE",
    "max_frame_bytes": "DAPHNE_WEBSOCKET_MAX_FRAME_SIZE",
}


class Command(ChannelsCommand):
    """Serves `ASGI_APPLICATION`, with WebSocket."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Add `--noasgi` and `--http_timeout`."""
        super().add_arguments(parser)
        parser.add_argument("--noasgi", action="store_true", help="Run Django's own WSGI server instead.")
        parser.add_argument(
            "--http_timeout", type=float, help="Seconds for a response, then 503 (default: no limit)."
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve, by Django's own command if that is asked for."""
        if options["noasgi"]:
            django_command = cast(Any, ChannelsCommand.__base__)
            django_command(stdout=self.stdout, stderr=self.stderr).execute(*args, **options)
            return
        for option, setting in _SIZES.items():
            size = getattr(settings, setting, None) if options[option] is None else options[option]
            options[option] = sys.maxsize if size == 0 else size
        super().handle(*args, **options)

    def get_application(self, options: Mapping[str, Any]) -> Any:
        """Return the application, within its time limit if there is one."""
        application = super().get_application(options)
        seconds = options.get("http_timeout")
        return application if seconds is None else TimeLimits(application, seconds, None)
