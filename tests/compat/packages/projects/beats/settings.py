"""Messages by the clock, through beatserver; between processes, so the layer is one with a service."""

import os

from common import *

ASGI_APPLICATION = "beats.asgi.application"
ROOT_URLCONF = "beats.asgi"
INSTALLED_APPS += ["beatserver"]
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [("127.0.0.1", int(os.environ["REDIS_PORT"]))], "prefix": "beats"},
    }
}
