"""Lists in header fields (RFC 9110 section 5.6.1): elements between commas, of which empty ones do not count."""

from __future__ import annotations

MAX_ELEMENTS = 100
"""Empty elements are to be ignored, "but not so much that they could be used as a denial-of-service mechanism"."""


def elements(value: bytes) -> list[bytes]:
    """The elements of a list, without the white space around them; none for an empty field.

    ValueError if there are more than `MAX_ELEMENTS` places for one.
    """
    if value.count(b",") >= MAX_ELEMENTS:
        raise ValueError(f"a list of more than {MAX_ELEMENTS} elements")
    return [element for part in value.split(b",") if (element := part.strip(b" \t"))]
