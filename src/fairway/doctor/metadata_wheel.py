"""Makes the wheel of a distribution `channels` without modules. It tells pip that Fairway provides this package.

Packages made for Channels require a distribution of that name. The one written here satisfies them, and requires
nothing: not even Fairway, which an installer would look for by name. Its version has a local part, so it cannot come
from the package index; this module, or `compat/channels` in the sources, makes it. A wheel without modules is three
text files in a zip archive.
"""

from __future__ import annotations

import hashlib
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

VERSION = "4.3.2+fairway"

FILE_NAME = f"channels-{VERSION}-py3-none-any.whl"

_INFO = f"channels-{VERSION}.dist-info"

_METADATA = f"""\
Metadata-Version: 2.4
Name: channels
Version: {VERSION}
Summary: Says that Fairway provides the import package `channels`. Carries no modules.
License-Expression: BSD-3-Clause
Requires-Python: >=3.11
Provides-Extra: daphne
Requires-Dist: daphne>=4.0.0; extra == 'daphne'
Provides-Extra: tests
Requires-Dist: pytest; extra == 'tests'
Requires-Dist: pytest-asyncio; extra == 'tests'
Requires-Dist: pytest-django; extra == 'tests'
Requires-Dist: selenium; extra == 'tests'
Provides-Extra: types
Requires-Dist: types-channels; extra == 'types'
"""

_WHEEL = """\
Wheel-Version: 1.0
Generator: fairway
Root-Is-Purelib: true
Tag: py3-none-any
"""


def write(directory: Path) -> Path:
    """Write the wheel into the directory, which is made if need be, and return the wheel's path. Raises `OSError`.

    The bytes are always the same, because lock files contain their hash. An existing wheel of this name stays as it is.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / FILE_NAME
    if not path.exists():
        _write(path)
    return path


def _write(path: Path) -> None:
    texts = {f"{_INFO}/METADATA": _METADATA, f"{_INFO}/WHEEL": _WHEEL}
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in (texts | {f"{_INFO}/RECORD": _record(texts)}).items():
            # A bare ZipInfo has a fixed date.
            wheel.writestr(zipfile.ZipInfo(name), text)


def _record(texts: dict[str, str]) -> str:
    lines = [f"{name},sha256={_digest(text)},{len(text.encode())}" for name, text in texts.items()]
    return "\n".join([*lines, f"{_INFO}/RECORD,,", ""])


def _digest(text: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
