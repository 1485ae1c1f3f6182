"""`python -m fairway` and the console script `fairway`: the server's command line, put together with Django's settings.

This is the composition root: the server knows no Django, so it is handed the function that reads
the limits.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fairway import __version__
from fairway.server import cli
from fairway.settings import limits_from_django


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (by default `sys.argv[1:]`) and return the exit code."""
    return cli.main(argv, limits_source=limits_from_django, version=__version__)


if __name__ == "__main__":
    sys.exit(main())
