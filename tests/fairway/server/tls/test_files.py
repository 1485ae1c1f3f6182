"""Certificate, key and authorities: what is loaded, what is refused in which words, and how a renewal is taken up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import ssl
from pathlib import Path
from typing import Any

import pytest
from tests.fairway.server.tls.certificates import authorities, authority, certificate, limits, trustme

from fairway.server.limits import ConfigurationError, Limits
from fairway.server.output.lanes import TlsSocket
from fairway.server.tls.files import Credentials, TlsFiles, files_of, watching


def certificates_of(context: ssl.SSLContext) -> bytes:
    """What a client is shown, by a handshake in memory."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(to_client, to_server), context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    shown = ends[0].getpeercert(binary_form=True)
    assert shown is not None
    return shown


def in_file(path: Path) -> bytes:
    pem = re.search(r"-----BEGIN CERT.*?-----END CERTIFICATE-----", path.read_text(), re.DOTALL)
    assert pem is not None
    return ssl.PEM_cert_to_DER_cert(pem.group())


def test_the_floor_is_safe_by_default(tmp_path: Path) -> None:
    context = Credentials(limits(tmp_path)).context

    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.num_tickets == 1
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.verify_mode is ssl.CERT_NONE
    assert context.sslsocket_class is TlsSocket
    of_1_2 = [one for one in context.get_ciphers() if one["protocol"] == "TLSv1.2"]
    assert of_1_2
    assert all(one["kea"] == "kx-ecdhe" and one["aead"] for one in of_1_2), of_1_2


def test_the_floor_can_be_raised(tmp_path: Path) -> None:
    assert Credentials(limits(tmp_path, tls_min_version="1.3")).context.minimum_version is ssl.TLSVersion.TLSv1_3
    chosen = Credentials(limits(tmp_path, tls_ciphers="ECDHE-ECDSA-AES128-GCM-SHA256")).context.get_ciphers()
    assert [one["name"] for one in chosen if one["protocol"] == "TLSv1.2"] == ["ECDHE-ECDSA-AES128-GCM-SHA256"]


def test_nothing_is_loaded_if_tls_is_not_asked_for() -> None:
    assert files_of(Limits()) is None


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    issued = authority().issue_cert("localhost")
    certfile, keyfile = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(str(certfile))
    issued.private_key_pem.write_to_path(str(keyfile))
    other, broken, secret, locked = (
        tmp_path / name for name in ("other.pem", "broken.pem", "secret.txt", "locked.pem")
    )
    authority().issue_cert("localhost").private_key_pem.write_to_path(str(other))
    broken.write_text("no certificate")
    secret.write_text("right\n")
    locked.write_bytes(with_password(keyfile.read_bytes(), b"right"))
    (tmp_path / "wrong.txt").write_text("wrong\n")
    names = ("cert.pem", "key.pem", "other.pem", "broken.pem", "secret.txt", "locked.pem", "wrong.txt")
    return {name.partition(".")[0]: tmp_path / name for name in names} | {"absent": tmp_path / "absent"}


def with_password(key: bytes, password: bytes) -> bytes:
    trustme()
    from cryptography.hazmat.primitives import serialization as form

    loaded = form.load_pem_private_key(key, None)
    lock = form.BestAvailableEncryption(password)
    return loaded.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, lock)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"certfile": "absent"}, "the certificate file {absent} cannot be read: no such file or directory"),
        ({"certfile": "cert", "keyfile": "absent"}, "the key file {absent} cannot be read: no such file or directory"),
        ({"certfile": "broken"}, "the certificate file {broken} holds no certificate in PEM form"),
        ({"certfile": "cert", "keyfile": "other"}, "the key in {other} does not belong to the certificate in {cert}"),
        (
            {"certfile": "cert", "keyfile": "locked"},
            "the key in {locked} has a password: keyfile_password_file has to name the file that holds it",
        ),
        (
            {"certfile": "cert", "keyfile": "locked", "keyfile_password_file": "wrong"},
            "the key in {locked} cannot be read with the password in keyfile_password_file",
        ),
        (
            {"certfile": "cert", "keyfile": "locked", "keyfile_password_file": "absent"},
            "the password file {absent} cannot be read: no such file or directory",
        ),
        ({"certfile": "cert", "keyfile": "broken"}, "certificate {cert} and key {broken} cannot be used: "),
        ({"keyfile": "key"}, "keyfile is given, but no certfile: there is no TLS without it"),
        ({"client_ca": "cert"}, "client_ca is given, but no certfile: there is no TLS without it"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(paths: dict[str, Path], given: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        files_of(Limits(**{name: paths[which] for name, which in given.items()}))  # type: ignore[arg-type]

    assert str(raised.value).startswith(sentence.format(**paths))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tls_ciphers": "NO-SUCH"}, "tls_ciphers 'NO-SUCH' names no cipher that OpenSSL has"),
        ({"client_certs": "required"}, "client_certs is required: client_ca has to name a file"),
        ({"client_certs": "optional", "client_ca": os.devnull}, f"the file {os.devnull} holds no certificates in PEM"),
        ({"dev_tls": True}, "dev_tls makes its own certificate: give either dev_tls or certfile"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match="^" + re.escape(sentence)):
        files_of(limits(tmp_path, **options))


def test_a_key_with_a_password_is_read(paths: dict[str, Path]) -> None:
    options = Limits(certfile=paths["cert"], keyfile=paths["locked"], keyfile_password_file=paths["secret"])  # type: ignore[arg-type]

    assert certificates_of(Credentials(options).context) == in_file(paths["cert"])


def test_clients_are_asked_for_certificates_if_that_is_wanted(tmp_path: Path) -> None:
    ca = str(authorities(tmp_path))

    assert Credentials(limits(tmp_path, client_certs="optional", client_ca=ca)).context.verify_mode is ssl.CERT_OPTIONAL
    assert Credentials(limits(tmp_path, client_certs="required", client_ca=ca)).context.verify_mode is ssl.CERT_REQUIRED


def test_a_renewed_certificate_is_served_from_then_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="fairway.server")
    path = certificate(tmp_path)
    files = TlsFiles(Limits(certfile=str(path)))
    before = files.credentials
    certificate(tmp_path)

    files.reload_if_changed()

    assert files.credentials is not before
    assert certificates_of(files.credentials.context) == in_file(path)
    assert caplog.messages == [f"TLS now uses the certificate in {path}"]


def test_as_long_as_nothing_has_changed_nothing_is_loaded(tmp_path: Path) -> None:
    files = TlsFiles(limits(tmp_path))
    before = files.credentials

    files.reload_if_changed()

    assert files.credentials is before


def test_a_broken_one_changes_nothing_and_is_told_of_once(
    paths: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    certfile, keyfile = paths["cert"], paths["key"]
    files = TlsFiles(Limits(certfile=str(certfile), keyfile=str(keyfile)))
    before, served = files.credentials, in_file(certfile)
    # The certificate is renewed, the key not yet.
    authority().issue_cert("localhost").cert_chain_pems[0].write_to_path(str(certfile))

    for _ in range(3):
        files.reload_if_changed()

    assert files.credentials is before
    assert certificates_of(before.context) == served
    assert caplog.messages == [
        f"TLS keeps the certificate it has: the key in {keyfile} does not belong to the certificate in {certfile}"
    ]


def test_when_the_rest_has_come_it_is_taken_up(paths: dict[str, Path]) -> None:
    files = TlsFiles(Limits(certfile=str(paths["cert"]), keyfile=str(paths["key"])))
    issued = authority().issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(str(paths["cert"]))
    files.reload_if_changed()
    issued.private_key_pem.write_to_path(str(paths["key"]))

    files.reload_if_changed()

    assert certificates_of(files.credentials.context) == in_file(paths["cert"])


class Looked(TlsFiles):
    """Says when its files have been looked at."""

    def reload_if_changed(self) -> None:
        super().reload_if_changed()
        self.looks.put_nowait(self.credentials)


async def test_the_files_are_looked_at_again_and_again_inside_the_block(tmp_path: Path) -> None:
    files = Looked(limits(tmp_path))
    files.looks = asyncio.Queue()
    before = files.credentials
    with watching(files, asyncio.get_running_loop(), 0.01):
        async with asyncio.timeout(20):
            assert await files.looks.get() is before
            certificate(tmp_path)
            while await files.looks.get() is before:
                pass


async def test_with_an_infinite_interval_they_are_not(tmp_path: Path) -> None:
    files = Looked(limits(tmp_path))
    files.looks = asyncio.Queue()
    with watching(files, asyncio.get_running_loop(), float("inf")):
        certificate(tmp_path)
        await asyncio.sleep(0)
    assert files.looks.empty()


def test_who_has_no_certificate_shares_what_is_said_of_the_connection(tmp_path: Path) -> None:
    class Endpoint:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

        def cipher(self) -> tuple[str, str, int]:
            return "TLS_AES_256_GCM_SHA384", "TLSv1.3", 256

        def version(self) -> str:
            return "TLSv1.3"

    path = certificate(tmp_path)
    credentials = Credentials(Limits(certfile=str(path)))
    endpoint: Any = Endpoint()

    details = credentials.facts(endpoint)["tls"]

    assert details is credentials.facts(endpoint)["tls"]
    assert ssl.PEM_cert_to_DER_cert(details["server_cert"]) == in_file(path)
    assert (details["tls_version"], details["cipher_suite"]) == (0x0304, 0x1302)
    assert (details["client_cert_chain"], details["client_cert_name"], details["client_cert_error"]) == ([], None, None)
