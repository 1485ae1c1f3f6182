"""What is sent when: beatserver looks for it here."""

from datetime import timedelta

BEAT_SCHEDULE = {
    "metronome": [
        {"type": "clock.ticks", "message": {"beat": "short"}, "schedule": timedelta(seconds=0.3)},
        {"type": "clock.ticks", "message": {"beat": "long"}, "schedule": "*/5 * * * *"},
    ]
}
