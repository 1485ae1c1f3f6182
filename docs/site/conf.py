"""How Sphinx makes the documentation site, once for each language (`make docs`). Its sources are the repository."""

from __future__ import annotations

import sys
from pathlib import Path

import django
from django.conf import settings
from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import languages  # noqa: E402
from chinese_search import SearchChinese  # noqa: E402

from fairway import __version__  # noqa: E402

REPOSITORY = HERE.parents[1]
settings.configure(INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"])
django.setup()
EVERY = languages.pages(REPOSITORY)

project = html_title = "Fairway"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}
suppress_warnings = ["misc.highlighting_failure"]  # Pygments does not know HAProxy's files.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
viewcode_follow_imported_members = False
myst_heading_anchors = 4
myst_url_schemes = {"http": None, "https": None, "mailto": None, languages.SCHEME: "{{path}}#{{fragment}}"}
html_theme = "furo"
html_show_sphinx = html_show_copyright = html_copy_source = False
html_favicon = "../../demo/static/site/favicon.svg"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_search_scorer = str(HERE / "scorer.js")
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5c73", "color-brand-content": "#0b5c73"},
    "dark_css_variables": {"color-brand-primary": "#7cc6d6", "color-brand-content": "#7cc6d6"},
}
html_permalinks_icon = "#"


def choose_pages(app: Sphinx, config: object) -> None:
    """The site has the pages of its language, and its front page is of that language."""
    site = app.config.language
    chosen = [page for page in EVERY if languages.is_in(site, page, EVERY)]
    app.config.include_patterns = [f"{page}.md" for page in chosen]
    app.config.root_doc = "docs/site/index.zh-CN" if site == "zh_CN" else "docs/site/index"


def rewrite(app: Sphinx, page: str, source: list[str]) -> None:
    """The links of a page lead to pages of its site where there are, and Chinese has no spaces between its lines."""
    text = languages.joined(source[0]) if languages.language_of(page) == "zh_CN" else source[0]
    source[0] = languages.rewritten(text, page, app.config.language, EVERY, lambda path: (REPOSITORY / path).is_dir())


def setup(app: Sphinx) -> None:
    app.add_search_language(SearchChinese)
    app.connect("config-inited", choose_pages)
    app.connect("source-read", rewrite)
