"""Texts as pages to read: as much of Markdown as the documentation is written in. Whatever else there is stays text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from textwrap import dedent

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from source.highlight import highlight

Link = Callable[[str], str | None]
"""Says where a link leads to on this site; None for nowhere."""

# Each pattern is tried at the beginning of what is left of the text; the first that fits is the next block.
_BLOCKS = [
    ("nothing", r" *\n|<!--[\s\S]*?-->\n?"),
    ("code", r"(?P<fence>```+)(?P<language>\w*).*\n(?P<code>[\s\S]*?)^(?P=fence)\n?"),
    ("indented", r"(?: {4}.*\n?|(?: *\n)+(?= {4}))+"),
    ("heading", r"(?P<level>#{1,6}) (?P<title>.*)\n?"),
    ("table", r"(?:\|.*\n?)+"),
    ("quote", r"(?:>.*\n?)+"),
    ("list", r"(?P<mark>[-*]|\d+\.) .*\n?(?:(?:(?:[-*]|\d+\.) | {2,}\S).*\n?|(?: *\n)+(?=[-*] |\d+\. | {2,}\S))*"),
    ("paragraph", r".+\n?(?:(?!```|#+ |\||>|[-*] |<!--) *\S.*\n?)*"),
]
_BLOCK = [(kind, re.compile(pattern, re.MULTILINE)) for kind, pattern in _BLOCKS]
_ITEM = re.compile(r"^(?:[-*]|\d+\.) ", re.MULTILINE)
_CELL = re.compile(r"(?<!\\)\|")
_INLINE = re.compile(
    r"""(?P<ticks>`+)(?P<code>.+?)(?P=ticks)
      | (?P<picture>!)?\[(?P<label>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>\S+?)\)
      | <(?P<address>https?://[^\s>]+)>
      | \*\*(?P<strong>.+?)\*\*
      | (?<![\w*])\*(?P<em>[^\s*](?:[^*]*[^\s*])?)\*(?![\w*])
      | <(?P<tag>/?(?:sub|kbd|br))>
      | \\(?P<literal>[^\w\s])
      | (?<=[\u3000-\u9fff\uff00-\uffef])(?P<fold>\n)(?=[\u3000-\u9fff\uff00-\uffef])""",
    re.VERBOSE | re.DOTALL,
)
_LANGUAGES = {"python": "python", "js": "javascript", "css": "css", "html": "template"}


def render(text: str, link: Link) -> SafeString:
    return _join(_blocks(text.expandtabs(4), link))


def anchor(title: str) -> str:
    """The name of a heading in an address, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _blocks(text: str, link: Link) -> Iterator[SafeString]:
    position = 0
    while position < len(text):
        kind, block = next((kind, found) for kind, pattern in _BLOCK if (found := pattern.match(text, position)))
        position = block.end()
        yield _RENDERED[kind](block, link)


def _code(block: re.Match[str], link: Link) -> SafeString:
    language = _LANGUAGES.get(block["language"])
    code = highlight(block["code"], language) if language else block["code"]
    return format_html('<pre class="code"><code>{}</code></pre>', code)


def _indented(block: re.Match[str], link: Link) -> SafeString:
    return format_html('<pre class="code"><code>{}</code></pre>', dedent(block[0]).strip("\n") + "\n")


def _heading(block: re.Match[str], link: Link) -> SafeString:
    level, title = len(block["level"]), block["title"].strip()
    return format_html('<h{} id="{}">{}</h{}>', level, anchor(title), _inline(title, link), level)


def _table(block: re.Match[str], link: Link) -> SafeString:
    rows = [[cell.strip() for cell in _CELL.split(row.strip()[1:-1])] for row in block[0].splitlines()]
    head = _row(rows[0], "th", link) if any(rows[0]) else ""
    body = _join(_row(row, "td", link) for row in rows[2:])
    return format_html('<div class="wide"><table>{}{}</table></div>', head, body)


def _row(cells: list[str], tag: str, link: Link) -> SafeString:
    tags = [tag if cell else "td" for cell in cells]  # a heading without words is none
    inner = ((tag, _inline(cell, link), tag) for tag, cell in zip(tags, cells, strict=True))
    return format_html("<tr>{}</tr>", format_html_join("", "<{}>{}</{}>", inner))


def _quote(block: re.Match[str], link: Link) -> SafeString:
    inner = re.sub(r"^> ?", "", block[0], flags=re.MULTILINE)
    return format_html("<blockquote>{}</blockquote>", _join(_blocks(inner, link)))


def _list(block: re.Match[str], link: Link) -> SafeString:
    tag = "ol" if block["mark"][0].isdecimal() else "ul"
    items = [_join(_blocks(_outdented(item), link)) for item in _ITEM.split(block[0])[1:]]
    return format_html("<{}>{}</{}>", tag, format_html_join("", "<li>{}</li>", ((item,) for item in items)), tag)


def _outdented(item: str) -> str:
    first, _, others = item.partition("\n")
    return f"{first}\n{dedent(others)}"


def _paragraph(block: re.Match[str], link: Link) -> SafeString:
    return format_html("<p>{}</p>", _inline(block[0].strip(), link))


_RENDERED: dict[str, Callable[[re.Match[str], Link], SafeString]] = {
    "nothing": lambda block, link: SafeString(""),
    "code": _code,
    "indented": _indented,
    "heading": _heading,
    "table": _table,
    "quote": _quote,
    "list": _list,
    "paragraph": _paragraph,
}


def _inline(text: str, link: Link) -> SafeString:
    pieces: list[str] = []
    end = 0
    for token in _INLINE.finditer(text):
        pieces += [text[end : token.start()], _token(token, link)]
        end = token.end()
    pieces.append(text[end:])
    return _join(pieces)


def _token(token: re.Match[str], link: Link) -> SafeString | str:
    kind = str(token.lastgroup)
    match kind:
        case "code":
            return format_html("<code>{}</code>", token["code"].replace("\\|", "|"))
        case "target" if token["picture"]:
            return format_html("<em>{}</em>", token["label"])
        case "target":
            address, label = link(token["target"]), _inline(token["label"], link)
            return format_html('<a href="{}">{}</a>', address, label) if address else label
        case "address":
            return format_html('<a href="{}">{}</a>', token["address"], token["address"])
        case "strong" | "em":
            return format_html("<{}>{}</{}>", kind, _inline(token[kind], link), kind)
        case "tag":
            return mark_safe(token[0])  # one of three that the pattern names, without attributes
        case "fold":
            return ""  # the end of a line between two Chinese characters is no space
        case _:
            return token["literal"]


def _join(pieces: Iterator[str] | list[str]) -> SafeString:
    return format_html_join("", "{}", ((piece,) for piece in pieces))
