"""`python -m fairway` and the console script `fairway`: `fairway module:attribute` serves, `fairway doctor` examines.

This is the composition root. The server must not import Django, so it gets functions that read the limits and return
the warnings. They import nothing of Django's either, unless the application is Django's. What only
some commands or applications need is imported where it is needed, because a server has to be there soon.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fairway import __version__, standard_streams


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (by default `sys.argv[1:]`) and return the exit code."""
    standard_streams.open_missing()
    arguments = sys.argv[1:] if argv is None else list(argv)
    # `doctor` cannot be an application, because an application's path has a colon.
    with standard_streams.reader_may_leave():
        return _examine(arguments[1:]) if arguments[:1] == ["doctor"] else _serve(arguments)


def _examine(arguments: Sequence[str]) -> int:
    from fairway.doctor import doctor

    return doctor.main(arguments)


def _serve(arguments: Sequence[str]) -> int:
    from fairway.departure import Departure
    from fairway.server import cli
    from fairway.server.limits import Limits
    from fairway.settings import limits_from_django, start_warnings, uses_django

    def limits_source() -> Limits:
        if uses_django():  # which is known now, because the application has been loaded
            import fairway.leftovers  # noqa: F401  # connects itself to Django's signal
        return limits_from_django()

    def warnings_source() -> list[str]:
        found = start_warnings()
        if "channels" in sys.modules:
            from fairway.doctor import doctor

            found = [*doctor.start_warnings(), *found]
        return found

    def before_fork() -> str:
        if not uses_django():
            return ""
        from fairway.before_fork import prepare

        return prepare()

    # From here on, the server owns the whole process.
    departure = Departure()
    code = cli.main(
        arguments,
        limits_source=limits_source,
        warnings_source=warnings_source,
        before_fork=before_fork,
        version=__version__,
        departure=departure,
    )
    departure.leave(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
