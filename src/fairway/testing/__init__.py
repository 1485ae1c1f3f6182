"""What tests of applications use of the engine: what was sent over channel layers, a server in a process of its own.

Importing it loads no server; that happens in the process that serves. `fairway.testing.pytest` has fixtures.
"""

from __future__ import annotations

from fairway.testing.process import ServerProcess
from fairway.testing.sent import Sent, SentMessages, record_sent

__all__ = ["Sent", "SentMessages", "ServerProcess", "record_sent"]
