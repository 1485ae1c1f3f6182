import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("people", "0001_initial"),
        ("chat", "0002_first_rooms"),
    ]

    operations = [
        migrations.CreateModel(
            name="Bookmark",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("message_id", models.BigIntegerField(default=0)),
                ("person", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="people.person")),
                ("room", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="chat.room")),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("person", "room"), name="bookmark_once_per_person_and_room")
                ],
            },
        ),
    ]
