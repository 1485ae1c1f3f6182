from __future__ import annotations

import html as entities
import re

from django.test import SimpleTestCase, TestCase

from source.files import PAGES, REPOSITORY
from source.highlight import highlight
from source.markdown import render


class SourcePageTests(TestCase):
    def test_every_file_of_every_page_is_shown(self) -> None:
        for name, files in PAGES.items():
            self.assertTrue(files, f"{name}: its patterns fit no file")
            for file in files.values():
                with self.subTest(file.name):
                    response = self.client.get(f"/source/{name}/{file.slug}/")
                    self.assertContains(response, f"<title>{entities.escape(file.title)} · Fairway</title>")
                    self.assertContains(response, "<h1", count=1)

    def test_the_documentation_is_listed_in_the_visitors_language_and_is_there_in_both(self) -> None:
        for language, there, elsewhere in [("zh-CN", "-zh-cn-md", "-md"), ("en", "-md", "-zh-cn-md")]:
            with self.subTest(language):
                response = self.client.get(
                    f"/source/docs/docs-howto-broadcast{elsewhere}/", headers={"accept-language": language}
                )
                listed = response.content.decode().partition('<nav class="source-files"')[2].partition("</nav>")[0]
                self.assertIn(f'href="/source/docs/docs-howto-broadcast{there}/"', listed)
                self.assertNotIn(f'href="/source/docs/docs-howto-broadcast{elsewhere}/"', listed)
                for file in PAGES["docs"].values():
                    self.assertTrue(file.twin or f'href="/source/docs/{file.slug}/"' in listed, file.name)
                first = self.client.get("/source/docs/", headers={"accept-language": language})
                self.assertContains(first, f'href="/source/docs/docs-readme{there}/" aria-current="page"')

    def test_every_link_of_the_documentation_leads_somewhere(self) -> None:
        pages = {f"/source/docs/{file.slug}/": file for file in PAGES["docs"].values()}
        documents = {path: self.client.get(path).content.decode().partition("<article")[2] for path in pages}
        there = {path: set(re.findall(r' id="([^"]*)"', document)) for path, document in documents.items()}
        links = 0
        for path, document in documents.items():
            for link in re.findall(r'<a href="([^"]*)"', document.partition("</article>")[0]):
                page, _, fragment = entities.unescape(link).partition("#")
                with self.subTest(path, link=link):
                    if page.startswith("/") and not page.startswith("/source/docs/"):
                        self.assertEqual(self.client.get(page).status_code, 200)
                    elif not page.startswith("http"):
                        self.assertIn(page or path, pages)
                        self.assertTrue(not fragment or fragment in there[page or path])
                        links += 1
        self.assertGreater(links, 300)

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
                    if file.language != "markdown":
                        self.assertEqual(strip(highlight(text, file.language)), text)


class MarkdownTests(SimpleTestCase):
    def test_blocks(self) -> None:
        for text, expected in BLOCKS.items():
            with self.subTest(text):
                self.assertHTMLEqual(show(text), expected)

    def test_what_is_not_ours_is_escaped_and_leads_nowhere(self) -> None:
        for text in ("<script>alert(1)</script>", "`<b>`", "[x](javascript:alert(1))", '[x]("onclick=)', "    <b>"):
            with self.subTest(text):
                self.assertNotRegex(show(text), r"<script|<b>|<a |onclick=\"")

    def test_of_the_documentation_no_markup_is_left(self) -> None:
        for file in PAGES["docs"].values():
            text = re.sub(r"<(pre|code)\b[\s\S]*?</\1>", "", show(file.read()))
            with self.subTest(file.name):
                self.assertNotRegex(
                    entities.unescape(re.sub(r"<[^>]+>", "", text)), r"`|\]\(|\*\*|^#|^\s*\||<!--|</?\w+>"
                )


def show(text: str) -> str:
    return render(text, lambda target: target if target.startswith(("/", "#", "http")) else None)


PRE, WIDE = '<pre class="code"><code>', '<div class="wide"><table>'
BLOCKS = {
    "# A `b` & c\n": '<h1 id="a-b--c">A <code>b</code> &amp; c</h1>',
    "One\ntwo.\n\nThree.\n": "<p>One\ntwo.</p><p>Three.</p>",
    "中文\n一行，\n不断开 and\n则断开\n": "<p>中文一行，不断开 and\n则断开</p>",
    "**a [b](/c)** *d* \\*e* 2*3*4\n": '<p><strong>a <a href="/c">b</a></strong> <em>d</em> *e* 2*3*4</p>',
    "<https://f.example>\n": '<p><a href="https://f.example">https://f.example</a></p>',
    "[elsewhere](../x.py) ![a picture](x.png) ``a ` b``\n": "<p>elsewhere <em>a picture</em> <code>a ` b</code></p>",
    "```sh\necho <1>\n\n# 2\n```\nafter\n": f"{PRE}echo &lt;1&gt;\n\n# 2\n</code></pre><p>after</p>",
    "Do:\n\n    a\n\n      b\n\nthen\n": f"<p>Do:</p>{PRE}a\n\n  b\n</code></pre><p>then</p>",
    "| | b |\n|---|---|\n| `c\\|d` | *e* |\n": f"{WIDE}<tr><td></td><th>b</th></tr>"
    "<tr><td><code>c|d</code></td><td><em>e</em></td></tr></table></div>",
    "| | |\n|---|---|\n| a | b |\n": f"{WIDE}<tr><td>a</td><td>b</td></tr></table></div>",
    "- a\n  b\n- c\n\n  d\n  - e\n\nf\n": "<ul><li><p>a\nb</p></li><li><p>c</p>"
    "<p>d</p><ul><li><p>e</p></li></ul></li></ul><p>f</p>",
    "1. a\n2. b\n": "<ol><li><p>a</p></li><li><p>b</p></li></ol>",
    "> a\n> b\n<!-- c -->\n": "<blockquote><p>a\nb</p></blockquote>",
}


def strip(html: str) -> str:
    return entities.unescape(re.sub(r"</?span[^>]*>", "", html))
