"""`python -m fairway` and the console script `fairway`: `fairway module:attribute` serves, `fairway doctor` examines.

This is the composition root. The server must not import Django, so it gets functions that read the limits and return
the warnings.
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
    # `doctor` cannot be an application, because an application's path has a colon.
    with standard_streams.reader_may_leave():
        return doctor.main(arguments[1:]) if arguments[:1] == ["doctor"] else _serve(arguments)


def _serve(arguments: Sequence[str]) -> int:
    # Imported here, because the doctor must also work if Django does not.
    import fairway.leftovers  # noqa: F401  # connects itself to Django's signal
    from fairway.departure import Departure
    from fairway.server import cli
    from fairway.settings import limits_from_django, start_warnings

    # From here on, the server owns the whole process.
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
