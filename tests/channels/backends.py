"""Authentication backends of a project's own, for tests that need more than Django's."""

from __future__ import annotations

from django.contrib.auth.backends import ModelBackend


class OtherBackend(ModelBackend):
    pass


class OwnBackend(ModelBackend):
    """Looks users up in its own way, which happens to be Django's."""

    def get_user(self, user_id):
        return super().get_user(user_id)
