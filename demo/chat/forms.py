"""The form that opens a room."""

from __future__ import annotations

from django import forms
from django.core.exceptions import ValidationError
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from chat.models import MAX_ROOMS, ROOM_NAME_MAX_LENGTH, Room, clean_room_name


class RoomForm(forms.ModelForm):
    name = forms.CharField(
        label=gettext_lazy("Room name"),
        max_length=ROOM_NAME_MAX_LENGTH,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    class Meta:
        model = Room
        fields = ["name"]

    def clean_name(self) -> str:
        name = clean_room_name(self.cleaned_data["name"])
        self.instance.slug = slugify(name, allow_unicode=True)
        if Room.objects.filter(slug=self.instance.slug).exists():
            raise ValidationError(_("A room with this name already exists."))
        if Room.objects.count() >= MAX_ROOMS:
            raise ValidationError(_("There are enough rooms already. Please join one of them."))
        return name
