"""Daphne's public names, served by Fairway.

For projects that change their server without changing their settings, scripts and tests.
"""

from __future__ import annotations

__version__ = "4.2.3"
