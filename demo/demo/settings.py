"""Settings of the demo: everything runs on SQLite, in one process if nothing else is said, with no other service.

They suit a machine you trust, not a public address. Environment variables change them: ``DEMO_LAYER`` (how several
processes talk: ``local``, or the URL of a Redis), ``DEMO_DATABASE`` (path of the SQLite file), ``DEMO_ALLOWED_HOSTS``
(further hosts, separated by commas), ``DEMO_VISITORS`` (how many visitors the page about speed may simulate; 0 switches
that off), ``DEMO_SECRET_KEY``, and ``DEMO_DEBUG=1`` (Django's debug pages).
"""

from __future__ import annotations

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from speed.logs import LOGGERS

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = os.environ.get("DEMO_SECRET_KEY", "demo-only-not-a-secret-0d9f6c1b7e54")
DEBUG = os.environ.get("DEMO_DEBUG") == "1"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
ALLOWED_HOSTS += [host for host in os.environ.get("DEMO_ALLOWED_HOSTS", "").split(",") if host]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "people",
    "chat",
    "notify",
    "game",
    "speed",
    "source",
    "channels",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "demo.middleware.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "people.middleware.person_middleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "demo.urls"
ASGI_APPLICATION = "demo.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "demo.strings.page_strings",
            ],
        },
    },
]

# The page about speed lets so many simulated visitors connect for some seconds. 0 on a public address.
SPEED_VISITORS = int(os.environ.get("DEMO_VISITORS", "300"))

# A crowd of simulated visitors would fill the log with lines that say nothing.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"without_visitors": {"()": "speed.logs.WithoutVisitors"}},
    "loggers": {name: {"filters": ["without_visitors"]} for name in LOGGERS},
}

# Pages that wait for the next event hold a request open. Ctrl-C waits for such requests for so many seconds.
FAIRWAY = {"SHUTDOWN_TIMEOUT": 2}

DATABASE = os.environ.get("DEMO_DATABASE", BASE_DIR / "db.sqlite3")

LAYER = os.environ.get("DEMO_LAYER", "memory")
PREFIX = f"demo {DATABASE}"  # with another database it is another site
# What was said in a room in the last ten minutes: a page that comes back in time gets it from there, in order and once.
# And what a game has last saved: it goes on even if all of its players were at a process that was killed.
CONFIG = {"history": {"chat.room.*": {"size": 200, "seconds": 600}, "game.*.clock": {"size": 1, "seconds": 60}}}
if LAYER == "memory":
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": CONFIG}}
elif LAYER == "local":
    CONFIG |= {"prefix": PREFIX}
    CHANNEL_LAYERS = {"default": {"BACKEND": "fairway.layers.local.LocalChannelLayer", "CONFIG": CONFIG}}
elif "://" in LAYER:
    CONFIG |= {"hosts": [LAYER], "prefix": PREFIX}
    CHANNEL_LAYERS = {"default": {"BACKEND": "fairway.layers.redis.RedisChannelLayer", "CONFIG": CONFIG}}
else:
    raise ImproperlyConfigured(f"DEMO_LAYER is {LAYER!r}: memory, local, or the URL of a Redis (redis://localhost)")

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATABASE,
        "OPTIONS": {
            # Readers do not wait for a writer, and writers queue for the lock instead of failing half-way.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            "transaction_mode": "IMMEDIATE",
        },
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "people.passwords.MinimumLength"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "people:login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "home"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
