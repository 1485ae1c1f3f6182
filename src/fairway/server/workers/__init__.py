"""Several processes that serve one application on the same sockets (`--workers`)."""

from __future__ import annotations

WORKERS_VARIABLE = "WEB_CONCURRENCY"
"""The variable in which hosting platforms give the number of processes. gunicorn and uvicorn read it too."""
