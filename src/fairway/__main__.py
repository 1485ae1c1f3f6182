"""`python -m fairway` and the console script `fairway`: `fairway module:attribute` serves, `fairway doctor` examines.

This is the composition root: the server knows no Django, so it is handed the functions that read
the limits and say what to warn of.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from fairway import __version__, standard_streams
from fairway.doctor import doctor


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (by default `sys.argv[1:]`) and return the exit code."""
    standard_streams.open_missing()
    arguments = sys.argv[1:] if argv is None else list(argv)
    # No application has this name: its path has a colon.
    return doctor.main(arguments[1:]) if arguments[:1] == ["doctor"] else _serve(arguments)


def _serve(arguments: Sequence[str]) -> int:
    # Imported here because the doctor has to work where Django does not.
    import fairway.leftovers  # noqa: F401  # connects itself to Django's signal
    from fairway.departure import Departure
    from fairway.server import cli
    from fairway.settings import limits_from_django, start_warnings

    # The process is the server's alone, from here to its end.
    departure = Departure()
    code = cli.main(
        arguments,
        limits_source=limits_from_django,
        warnings_source=lambda: [*doctor.start_warnings(), *start_warnings()],
        before_fork=lambda: importlib.import_module("fairway.before_fork").prepare(),
        version=__version__,
        departure=departure,
    )
    departure.leave(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
