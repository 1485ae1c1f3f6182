"""A second authentication backend, for tests that need two."""

from __future__ import annotations

from django.contrib.auth.backends import ModelBackend


class OtherBackend(ModelBackend):
    pass
