"""Settings of the Django project that the tests run in: SQLite in a file of this process's own."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# Several test runs may go on at once, so the name is never the same.
BASE_DIR = Path(tempfile.mkdtemp(prefix="fairway-tests-"))


@atexit.register
def _remove(maker: int = os.getpid()) -> None:
    """With the process that made it, not with a fork of it."""
    if os.getpid() == maker:
        shutil.rmtree(BASE_DIR, ignore_errors=True)


SECRET_KEY = "not a secret: tests only"
DEBUG = False
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1", "[::1]"]
USE_TZ = True
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "channels",
]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "db.sqlite3",
        # A file here as well: connections to SQLite in memory cannot be closed, and that is under test.
        "TEST": {"NAME": BASE_DIR / "test.sqlite3"},
    }
}

CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

# Hashing that is slow on purpose would make up most of the time that tests with users take.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
