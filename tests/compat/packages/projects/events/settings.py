"""Server-sent events, through django-eventstream; with `REDIS_PORT` between processes."""

import os

from common import *

ASGI_APPLICATION = "events.asgi.application"
ROOT_URLCONF = "events.urls"
INSTALLED_APPS += ["django_eventstream"]
if "REDIS_PORT" in os.environ:
    EVENTSTREAM_REDIS = {"host": "127.0.0.1", "port": int(os.environ["REDIS_PORT"]), "db": 0}
# A client that has left cannot be told from one that is only silent before so long; tests do not wait longer.
FAIRWAY = {"CLOSE_TIMEOUT": 0.2}
