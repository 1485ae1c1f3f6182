"""Colours for source code: comments, strings and words of the language. One regular expression each, and no grammar."""

from __future__ import annotations

import re

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

_PYTHON_WORDS = (
    "False None True and as assert async await break case class continue def del elif else except finally for from "
    "global if import in is lambda match nonlocal not or pass raise return try while with yield"
)
_JAVASCRIPT_WORDS = (
    "async await break case catch class const continue default else export extends false finally for from function get "
    "if import in instanceof let new null of return super switch this throw true try typeof while"
)
_STRINGS = r'"(?:\\.|[^"\\\n])*"' r"|'(?:\\.|[^'\\\n])*'"


def _words(words: str) -> str:
    return rf"\b(?:{'|'.join(words.split())})\b"


_TOKENS = {
    "python": rf'(?P<comment>#.*|"""[\s\S]*?""")|(?P<string>{_STRINGS})|(?P<word>{_words(_PYTHON_WORDS)}|^\s*@[\w.]+)',
    "javascript": rf"(?P<comment>//.*)|(?P<string>{_STRINGS}|`(?:\\.|[^`\\])*`)|(?P<word>{_words(_JAVASCRIPT_WORDS)})",
    "css": r"(?P<comment>/\*[\s\S]*?\*/)|(?P<word>@[\w-]+|--[\w-]+)",
    "template": r'(?P<comment>{#.*?#}|<!--[\s\S]*?-->)|(?P<word>{%.*?%}|{{.*?}})|(?P<string>"[^"\n{]*")',
}
_PATTERNS = {language: re.compile(tokens, re.MULTILINE) for language, tokens in _TOKENS.items()}


def highlight(text: str, language: str) -> SafeString:
    """The text as HTML: escaped, with a <span> around each token."""
    pieces: list[str] = []
    end = 0
    for token in _PATTERNS[language].finditer(text):
        pieces.append(text[end : token.start()])
        pieces.append(format_html('<span class="{}">{}</span>', token.lastgroup, token.group()))
        end = token.end()
    pieces.append(text[end:])
    return format_html_join("", "{}", [(piece,) for piece in pieces])
