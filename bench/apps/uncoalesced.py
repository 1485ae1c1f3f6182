"""Fairway with coalescing off, to be compared with: every frame is written at once. Arguments as for `fairway`."""

import sys

from fairway.__main__ import main
from fairway.server.output.batch import Batch
from fairway.server.output.fanout import Fanout

Batch.add = Fanout.add = lambda self, outbox: outbox.flush()
Fanout.sweep_to = lambda self, *message: False

if __name__ == "__main__":
    sys.exit(main())
