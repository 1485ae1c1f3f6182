"""Names that people choose: what is allowed, when two are the same, and one to start with."""

from __future__ import annotations

import random
import re
import unicodedata

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

NAME_MAX_LENGTH = 30

_ALLOWED = re.compile(r"\w[\w .'·@+-]*")
_BIRDS = [
    gettext_noop("Heron"),
    gettext_noop("Tern"),
    gettext_noop("Gull"),
    gettext_noop("Plover"),
    gettext_noop("Curlew"),
    gettext_noop("Avocet"),
    gettext_noop("Osprey"),
    gettext_noop("Kingfisher"),
]


def clean_name(text: str) -> str:
    """The name as it is stored: compatible characters unified, white space collapsed. Raises ValidationError."""
    name = " ".join(unicodedata.normalize("NFKC", text).split())
    if not name:
        raise ValidationError(_("Please enter a name."))
    if len(name) > NAME_MAX_LENGTH:
        raise ValidationError(_("A name can have at most %(limit)d characters.") % {"limit": NAME_MAX_LENGTH})
    if not _ALLOWED.fullmatch(name):
        raise ValidationError(_("A name must start with a letter or digit and cannot contain special characters."))
    return name


def name_key(name: str) -> str:
    """Two names with the same key are the same name to a reader."""
    return unicodedata.normalize("NFKC", name).casefold()


def suggest_name(attempt: int = 0) -> str:
    """A name in the active language. It may be taken; each further attempt has more to choose from."""
    return f"{_(random.choice(_BIRDS))} {random.randint(10, 999 * 2**attempt)}"
