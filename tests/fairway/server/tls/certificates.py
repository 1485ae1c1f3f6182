"""Certificates for tests, made when they are asked for: without trustme the tests that want one are skipped."""

from __future__ import annotations

import functools
import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from fairway.server.limits import Limits
from fairway.server.tls.files import TlsFiles


def trustme() -> Any:
    if os.environ.get("CI") == "true":
        return __import__("trustme")
    return pytest.importorskip("trustme")


@functools.cache
def authority() -> Any:
    """One for all tests: making it takes longer than making a certificate."""
    return trustme().CA()


def certificate(folder: Path, name: str = "server.pem", authority_: Any = None, common_name: str | None = None) -> Path:
    """A file with a key and a certificate for localhost."""
    path = folder / name
    issued = (authority_ or authority()).issue_cert("localhost", "127.0.0.1", common_name=common_name)
    issued.private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


def authorities(folder: Path, name: str = "authorities.pem", authority_: Any = None) -> Path:
    path = folder / name
    (authority_ or authority()).cert_pem.write_to_path(str(path))
    return path


def limits(folder: Path, **changes: Any) -> Limits:
    """Limits of a server with a certificate of its own."""
    return Limits(certfile=str(certificate(folder)), **changes)


def files(folder: Path, **changes: Any) -> TlsFiles:
    return TlsFiles(limits(folder, **changes))


def client_context(own: Path | None = None) -> ssl.SSLContext:
    """What a client needs that trusts this authority and no other, since reading those of the system takes longer than
    most tests; `own` is the file with its certificate, if it shows one.
    """
    context = ssl.create_default_context(cadata=authority().cert_pem.bytes().decode())
    if own is not None:
        context.load_cert_chain(own)
    return context
