"""Settings of the site in production: those of development, and what differs. Secrets come from the environment."""

from os import environ

from mysite.settings import *

DEBUG = False
SECRET_KEY = environ["SECRET_KEY"]
ALLOWED_HOSTS = ["example.com"]
STATIC_ROOT = environ.get("STATIC_ROOT", "/srv/mysite/static")

SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
SECURE_HSTS_SECONDS = 3600

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "fairway.layers.redis.RedisChannelLayer",
        "CONFIG": {"hosts": [environ["REDIS_URL"]], "prefix": "mysite"},
    }
}

FAIRWAY = {
    "MANAGEMENT": "unix:/run/mysite/management",
    "HEALTH_PATH": "/healthz",
    "SHUTDOWN_TIMEOUT": 20,
    "DRAIN_SECONDS": 20,
    "WORKER_KILL_AFTER": 60,
}
