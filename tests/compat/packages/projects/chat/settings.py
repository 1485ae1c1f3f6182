"""A chat over a layer that needs a service: `LAYER` says which, `REDIS_PORT` or `POSTGRES_...` where."""

import os

from common import *

ASGI_APPLICATION = "chat.asgi.application"


def redis_layer(backend):
    return {"BACKEND": backend, "CONFIG": {"hosts": [("127.0.0.1", int(os.environ["REDIS_PORT"]))]}}


def core():
    return redis_layer("channels_redis.core.RedisChannelLayer")


def pubsub():
    return redis_layer("channels_redis.pubsub.RedisPubSubChannelLayer")


def postgres():
    where = {name: os.environ[f"POSTGRES_{name}"] for name in ("NAME", "USER", "HOST", "PORT")}
    database = {"ENGINE": "django.db.backends.postgresql", "PASSWORD": "", **where}
    INSTALLED_APPS.append("channels_postgres")
    DATABASES["channels_postgres"] = database
    return {"BACKEND": "channels_postgres.core.PostgresChannelLayer", "CONFIG": database}


CHANNEL_LAYERS = {"default": {"core": core, "pubsub": pubsub, "postgres": postgres}[os.environ["LAYER"]]()}
