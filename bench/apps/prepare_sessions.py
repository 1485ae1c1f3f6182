"""Make the database that BENCH_DATABASE names: users, a session for each, and a line of cookies for each in a file.

python prepare_sessions.py COOKIES COUNT
"""

import secrets
import sys
from datetime import timedelta
from pathlib import Path

import site_app  # noqa: F401  (configures Django)
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.utils import timezone

BACKEND = "django.contrib.auth.backends.ModelBackend"


def session(user):
    content = {
        SESSION_KEY: str(user.pk),
        BACKEND_SESSION_KEY: BACKEND,
        HASH_SESSION_KEY: user.get_session_auth_hash(),
    }
    return Session(
        session_key=secrets.token_hex(16),
        session_data=SessionStore().encode(content),
        expire_date=timezone.now() + timedelta(days=3650),
    )


def main(cookies, count):
    call_command("migrate", verbosity=0)
    users = [User(username=f"user{number}", password=f"!{secrets.token_hex(20)}") for number in range(count)]
    sessions = [session(user) for user in User.objects.bulk_create(users)]
    Session.objects.bulk_create(sessions)
    Path(cookies).write_text("".join(f"sessionid={one.session_key}\n" for one in sessions))


main(sys.argv[1], int(sys.argv[2]))
