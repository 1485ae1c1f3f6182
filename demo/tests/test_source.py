from __future__ import annotations

import html as entities
import re

from django.test import SimpleTestCase, TestCase

from source.files import PAGES, REPOSITORY
from source.highlight import highlight


class SourcePageTests(TestCase):
    def test_every_file_of_every_page_is_shown(self) -> None:
        for name, files in PAGES.items():
            self.assertTrue(files, f"{name}: its patterns fit no file")
            for file in files.values():
                with self.subTest(file.name):
                    response = self.client.get(f"/source/{name}/{file.slug}/")
                    self.assertContains(response, f"<h2>{file.name}</h2>")

    def test_the_documentation_is_in_the_visitors_language(self) -> None:
        response = self.client.get("/source/docs/docs-howto-broadcast-zh-cn-md/", headers={"accept-language": "zh-CN"})

        self.assertContains(response, "docs/howto/broadcast.zh-CN.md</h2>")
        self.assertNotContains(response, "docs/howto/broadcast.md")

    def test_nothing_else_is(self) -> None:
        self.assertTrue((REPOSITORY / "demo" / "manage.py").exists())
        for path in (
            "chat/demo-manage-py/",
            "chat/demo-notify-views-py/",
            "chat/..%2f..%2fmanage.py/",
            "chat/%2fetc%2fpasswd/",
            "../manage.py",
            "nothing/",
        ):
            with self.subTest(path):
                self.assertEqual(self.client.get(f"/source/{path}").status_code, 404)


class HighlightTests(SimpleTestCase):
    def test_tokens_are_marked_and_everything_is_escaped(self) -> None:
        html = highlight('if x < "<b>":  # "no" & more\n', "python")

        self.assertEqual(
            html,
            '<span class="word">if</span> x &lt; <span class="string">&quot;&lt;b&gt;&quot;</span>:  '
            '<span class="comment"># &quot;no&quot; &amp; more</span>\n',
        )

    def test_a_docstring_is_a_comment_over_several_lines(self) -> None:
        html = highlight('"""One.\n\nTwo."""\n', "python")

        self.assertIn('<span class="comment">&quot;&quot;&quot;One.\n\nTwo.&quot;&quot;&quot;</span>', html)

    def test_nothing_is_lost(self) -> None:
        for files in PAGES.values():
            for file in files.values():
                with self.subTest(file.name):
                    text = file.read()
                    pieces = highlight(text, file.language)
                    self.assertEqual(strip(pieces), text)


def strip(html: str) -> str:
    return entities.unescape(re.sub(r"</?span[^>]*>", "", html))
