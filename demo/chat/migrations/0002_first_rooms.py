"""Three rooms to begin with. Their names are translated when they are shown."""

from __future__ import annotations

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.utils.translation import gettext_noop

ROOMS = [
    ("harbour", gettext_noop("Harbour")),
    ("open-water", gettext_noop("Open water")),
    ("lighthouse", gettext_noop("Lighthouse")),
]


def add_rooms(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    room = apps.get_model("chat", "Room")
    for slug, name in ROOMS:
        room.objects.create(slug=slug, name=name, built_in=True)


class Migration(migrations.Migration):
    dependencies = [("chat", "0001_initial")]
    operations = [migrations.RunPython(add_rooms, migrations.RunPython.noop)]
