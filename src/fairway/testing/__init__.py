"""What tests use of the engine: a server in a process of its own.

Importing it loads no server; that happens in the process that serves.
"""

from __future__ import annotations

from fairway.testing.process import ServerProcess

__all__ = ["ServerProcess"]
