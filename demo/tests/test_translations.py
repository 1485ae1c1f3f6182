"""The compiled catalogue is what gettext would make of the text one, and every text is translated."""

from __future__ import annotations

import ast
import gettext
import re
from pathlib import Path

from django.conf import settings
from django.test import SimpleTestCase

CATALOGUE = Path(settings.BASE_DIR) / "locale" / "zh_Hans" / "LC_MESSAGES"
PLACEHOLDER = re.compile(r"\{\w+\}|%\(\w+\)[sd]")


def read_po(path: Path) -> dict[str, str]:
    """msgid to msgstr, without the header; enough for a catalogue without contexts and plurals."""
    entries: dict[str, str] = {}
    pair = {"msgid": "", "msgstr": ""}
    key = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("msgid "):
            pair = {"msgid": "", "msgstr": ""}
        if line.startswith(("msgid ", "msgstr ")):
            key, line = line.split(" ", 1)
        if line.startswith('"'):
            pair[key] += ast.literal_eval(line)
            entries[pair["msgid"]] = pair["msgstr"]
    entries.pop("")
    return entries


def template_texts() -> set[str]:
    pattern = re.compile(r"""\{% translate (?:"([^"]*)"|'([^']*)') %\}""")
    files = (settings.BASE_DIR / "templates").rglob("*.html")
    return {one or two for file in files for one, two in pattern.findall(file.read_text(encoding="utf-8"))}


class CatalogueTests(SimpleTestCase):
    def setUp(self) -> None:
        self.texts = read_po(CATALOGUE / "django.po")

    def test_the_compiled_catalogue_agrees_with_the_text_one(self) -> None:
        with (CATALOGUE / "django.mo").open("rb") as file:
            compiled = dict(gettext.GNUTranslations(file)._catalog)
        compiled.pop("")

        self.assertEqual(compiled, self.texts)

    def test_every_text_is_translated(self) -> None:
        self.assertEqual([text for text, translation in self.texts.items() if not translation], [])

    def test_every_text_of_the_templates_is_in_the_catalogue(self) -> None:
        self.assertEqual(sorted(template_texts() - set(self.texts)), [])

    def test_placeholders_survive_translation(self) -> None:
        for text, translation in self.texts.items():
            with self.subTest(text):
                self.assertEqual(sorted(PLACEHOLDER.findall(text)), sorted(PLACEHOLDER.findall(translation)))

    def test_no_translation_is_marked_as_a_guess(self) -> None:
        lines = (CATALOGUE / "django.po").read_text(encoding="utf-8").splitlines()

        self.assertEqual([line for line in lines if line.startswith("#") and "fuzzy" in line], [])
