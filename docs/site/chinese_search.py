"""The search of the Chinese site: Chinese is indexed and asked for by pairs of characters, Latin words as in English.

Nobody types where a word ends in Chinese, and a dictionary that cuts a page into words may cut the question otherwise:
通道层 is one word to its reader and two to the dictionary. Pairs need no dictionary, and a page that has all pairs of
a question nearly always has the question.
"""

from __future__ import annotations

import re

from sphinx.search.en import SearchEnglish

PART = re.compile(r"(?P<chinese>[\u4e00-\u9fff]+)|[^\W\u4e00-\u9fff]+")


def words(text: str) -> list[str]:
    """What a text is indexed by."""
    return [word for part in PART.finditer(text) for word in (pairs(part[0]) if part["chinese"] else [part[0]])]


def pairs(chinese: str) -> list[str]:
    return [chinese[at : at + 2] for at in range(max(1, len(chinese) - 1))]


class SearchChinese(SearchEnglish):
    """For `add_search_language`. Its stemmer is that for English, which leaves Chinese alone."""

    lang = "zh"
    js_splitter_code = r"""
// The same as words() in docs/site/chinese_search.py.
var splitQuery = (query) =>
  (query.match(/[\u4e00-\u9fff]+|(?:(?![\u4e00-\u9fff])[\p{L}\p{N}_])+/gu) ?? []).flatMap((part) =>
    /[\u4e00-\u9fff]/.test(part)
      ? Array.from({ length: Math.max(1, part.length - 1) }, (_, at) => part.slice(at, at + 2))
      : [part],
  );
"""

    def split(self, input: str) -> list[str]:
        return words(input)
