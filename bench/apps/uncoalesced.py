"""Fairway with coalescing off, to be compared with: every frame is written at once. Arguments as for `fairway`."""

import sys

from fairway.__main__ import main
from fairway.server.batch import Batch

Batch.add = Batch.add_to_crowd = lambda self, outbox: outbox.flush()

if __name__ == "__main__":
    sys.exit(main())
