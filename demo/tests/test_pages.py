from __future__ import annotations

import re

from django.conf import settings
from django.test import TestCase

PAGES = ["/", "/chat/in/harbour/", "/notifications/", "/game/", "/you/", "/you/login/", "/you/register/"]
PAGES += ["/speed/", "/source/", "/source/chat/", "/source/docs/"]


class PageTests(TestCase):
    def test_every_page_names_its_language_and_has_one_heading(self) -> None:
        for path in PAGES:
            for header, language in [("en-GB,en;q=0.8", "en"), ("zh-CN,zh;q=0.9", "zh-hans")]:
                with self.subTest(path, language=language):
                    html = self.client.get(path, headers={"accept-language": header}).content.decode()
                    self.assertIn(f'<html lang="{language}">', html)
                    self.assertEqual(html.count("<h1"), 1)

    def test_no_page_names_another_host(self) -> None:
        for path in PAGES:
            with self.subTest(path):
                response = self.client.get(path)
                self.assertContains(response, "<noscript>")
                self.assertEqual(re.findall(r'(?:src|href|action)="(?:https?:)?//[^"]*', response.content.decode()), [])
                self.assertIn("default-src 'self'", response.headers["Content-Security-Policy"])

    def test_scripts_and_styles_name_no_other_host(self) -> None:
        files = [f for f in (settings.BASE_DIR / "static").rglob("*") if f.suffix in {".js", ".css"}]
        self.assertTrue(files)
        for file in files:
            with self.subTest(file.name):
                text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
                self.assertNotRegex(text, r"https?://|//\w+\.\w+/")

    def test_no_script_makes_markup_out_of_text(self) -> None:
        for file in (settings.BASE_DIR / "static").rglob("*.js"):
            with self.subTest(file.name):
                text = file.read_text(encoding="utf-8")
                self.assertNotRegex(text, r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(")

    def test_the_language_can_be_switched(self) -> None:
        self.client.post("/i18n/setlang/", {"language": "zh-hans", "next": "/"})

        self.assertContains(self.client.get("/", headers={"accept-language": "en"}), "打开聊天")

    def test_an_unknown_page_is_a_styled_404_in_both_languages(self) -> None:
        for header, words in [
            ("en", "This page does not exist, or the room"),
            ("zh-CN", "这个页面不存在，或房间已改名。"),
        ]:
            response = self.client.get("/nowhere/", headers={"accept-language": header})
            self.assertContains(response, words, status_code=404)
        self.assertNotIn("person", self.client.session)
