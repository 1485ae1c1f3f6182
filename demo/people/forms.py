"""Two forms: a name chosen on the spot, and a new account."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.forms import UserCreationForm
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from people.models import Person
from people.names import NAME_MAX_LENGTH, clean_name, name_key


def require_free_name(name: str, person: Person) -> None:
    """Raises ValidationError if somebody else has this name."""
    if Person.objects.filter(name_key=name_key(name)).exclude(pk=person.pk).exists():
        raise ValidationError(_("This name is taken. Please choose another one."))


class NameForm(forms.Form):
    name = forms.CharField(
        label=gettext_lazy("Your name"),
        max_length=NAME_MAX_LENGTH,
        widget=forms.TextInput(attrs={"autocomplete": "nickname"}),
    )

    def __init__(self, *args: Any, person: Person, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.person = person

    def clean_name(self) -> str:
        name = clean_name(self.cleaned_data["name"])
        require_free_name(name, self.person)
        return name


class RegisterForm(UserCreationForm):
    """Django's own form; the name must also be free among the people who have no account."""

    def __init__(self, *args: Any, person: Person, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.person = person
        self.fields["username"].max_length = NAME_MAX_LENGTH
        self.fields["username"].widget.attrs["maxlength"] = NAME_MAX_LENGTH
        self.fields["username"].help_text = ""

    def clean_username(self) -> str:
        username = super().clean_username()
        clean_name(username)
        require_free_name(username, self.person)
        return username
