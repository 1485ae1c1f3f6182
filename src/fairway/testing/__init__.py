"""Tools for the tests of applications: `record_sent` records what is sent over channel layers, and `ServerProcess` runs
a server in a separate process.

Importing this package does not load the server. Only the serving process does. Fixtures are in
`fairway.testing.pytest`.
"""

from __future__ import annotations

from fairway.testing.process import ServerProcess
from fairway.testing.sent import Sent, SentMessages, record_sent

__all__ = ["Sent", "SentMessages", "ServerProcess", "record_sent"]
