"""Servers that the tests of HTTP/2 share: in clear text and over TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from tests.suites.serving import Subject, served


class Certificate(NamedTuple):
    """Files: a certificate for 127.0.0.1 and localhost, its key, and who signed it."""

    chain: Path
    key: Path
    authority: Path

    @property
    def flags(self) -> tuple[str, ...]:
        return "--certfile", str(self.chain), "--keyfile", str(self.key)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("certificate")
    made = Certificate(folder / "chain.pem", folder / "key.pem", folder / "authority.pem")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(made.chain), append=True)
    issued.private_key_pem.write_to_path(str(made.key))
    authority.cert_pem.write_to_path(str(made.authority))
    return made


@pytest.fixture(scope="module")
def clear() -> Iterator[Subject]:
    with served() as subject:
        yield subject


@pytest.fixture(scope="module")
def tls(certificate: Certificate) -> Iterator[Subject]:
    with served(*certificate.flags) as subject:
        yield subject
