"""`python -m daphne`."""

from __future__ import annotations

from daphne.cli import CommandLineInterface

if __name__ == "__main__":
    CommandLineInterface.entrypoint()
