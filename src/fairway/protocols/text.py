"""Text as UTF-8, which is what goes over every wire."""

from __future__ import annotations


def utf8(text: str) -> bytes:
    """The text as UTF-8. Half a character, a lone surrogate, becomes U+FFFD, as when a browser sends it (Web IDL,
    `USVString`).

    JSON can bring it from any client, and an application may pass it on to many others: an error here would end them.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
