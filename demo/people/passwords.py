"""Django's rule for the length of a password, with an error that Django has in every language."""

from __future__ import annotations

from django.contrib.auth.password_validation import MinimumLengthValidator


class MinimumLength(MinimumLengthValidator):
    def get_error_message(self) -> str:
        # The rule's own error has no Simplified Chinese in Django 5.2; the help text says the same and has one.
        return self.get_help_text()
