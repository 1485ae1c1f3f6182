"""`DEMO_LAYER`: how several processes of the demo talk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from django.test import SimpleTestCase

SHOW = "from django.conf import settings; print(settings.CHANNEL_LAYERS['default']['BACKEND'].rpartition('.')[2])"


class LayerTests(SimpleTestCase):
    def backend(self, **variables: str) -> tuple[str, str]:
        """The class of the layer, and what went wrong, in a process with these variables."""
        done = subprocess.run(
            [sys.executable, "-c", SHOW],
            capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parent.parent,
            env={name: value for name, value in os.environ.items() if name != "DEMO_LAYER"}
            | {"DJANGO_SETTINGS_MODULE": "demo.settings"} | variables,
        )  # fmt: skip
        return done.stdout.strip(), done.stderr

    def test_each_layer_has_its_word(self) -> None:
        self.assertEqual(self.backend(), ("InMemoryChannelLayer", ""))
        self.assertEqual(self.backend(DEMO_LAYER="local"), ("LocalChannelLayer", ""))
        self.assertEqual(self.backend(DEMO_LAYER="redis://localhost"), ("RedisChannelLayer", ""))

    def test_another_word_is_answered(self) -> None:
        self.assertIn(
            "DEMO_LAYER is 'lokal': memory, local, or the URL of a Redis (redis://localhost)",
            self.backend(DEMO_LAYER="lokal")[1],
        )
