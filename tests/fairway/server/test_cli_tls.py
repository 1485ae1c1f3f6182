"""TLS on the command line: what is said, what is refused, and what a SIGHUP does."""

from __future__ import annotations

import http.client
import signal
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fairway.server.test_cli import PATIENCE, Process, quiet, site, spawn
from tests.fairway.server.tls import certificates

from fairway.server.cli import main

__all__ = ["quiet", "site", "spawn"]


def shown(port: int) -> bytes:
    """The certificate that a client is shown, once it has been answered."""
    connection = http.client.HTTPSConnection("localhost", port, timeout=PATIENCE, context=certificates.client_context())
    try:
        connection.request("GET", "/")
        assert connection.getresponse().read().startswith(b'{"threshold"')
        assert isinstance(connection.sock, ssl.SSLSocket)
        certificate = connection.sock.getpeercert(binary_form=True)
        assert certificate is not None
        return certificate
    finally:
        connection.close()


@pytest.mark.slow
def test_https_and_wss_are_served_and_a_sighup_takes_up_a_renewed_certificate(
    site: Path, spawn: Callable[..., Process]
) -> None:
    path = certificates.certificate(site)
    process = spawn("--port", "0", "--certfile", "server.pem", "cli_site:application", start_new_session=True)
    first, _, second = process.address.partition(" and ")
    assert first.startswith("https://127.0.0.1:")
    assert second == first.replace("https", "wss")
    port = int(first.rpartition(":")[2])
    before = shown(port)

    certificates.certificate(site)
    process.popen.send_signal(signal.SIGHUP)
    process.read_until("TLS now uses the certificate in server.pem")
    renewed = shown(port)
    path.write_text("broken")
    process.popen.send_signal(signal.SIGHUP)
    process.read_until("TLS keeps the certificate it has: the certificate file server.pem holds no certificate")

    assert before != renewed == shown(port)
    process.popen.terminate()
    assert process.end()[0] == 0


@pytest.mark.slow
def test_a_variable_and_the_users_data_folder_give_localhost_a_certificate(
    site: Path, spawn: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates.trustme()
    monkeypatch.setenv("XDG_DATA_HOME", str(site / "data"))
    monkeypatch.setenv("FAIRWAY_DEV_TLS", "on")
    process = spawn("--port", "0", "cli_site:application")
    authority = site / "data/fairway/dev-tls/authority.pem"
    assert f"TLS for localhost: make your browser trust the authority in {authority}, once" in process.lines
    port = int(process.address.partition(" and ")[0].rpartition(":")[2])
    trust = ssl.create_default_context(cafile=str(authority))
    connection = http.client.HTTPSConnection("localhost", port, timeout=PATIENCE, context=trust)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--certfile absent.pem", "the certificate file absent.pem cannot be read: no such file or directory"),
        ("--keyfile key.pem", "keyfile is given, but no certfile: there is no TLS without it"),
        ("--client-certs required", "client_certs is required, but no certfile: there is no TLS without it"),
        ("--client-certs sometimes", "--client-certs must be one of none, optional, required, not 'sometimes'"),
        ("--tls-min-version 1.1", "--tls-min-version must be one of 1.2, 1.3, not '1.1'"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_1(
    site: Path, quiet: None, arguments: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments.split(), "--port", "0", "cli_site:application"]) == 1
    assert capsys.readouterr().err == f"fairway: {sentence}\n"


@pytest.mark.parametrize(
    ("option", "way_out"),
    [
        ("--ssl-certfile", "write --certfile"),
        ("--ssl-keyfile-password", "write --keyfile-password-file: others see the command line"),
        ("--ca-certs", "write --client-ca"),
        ("--ciphers", "write --tls-ciphers"),
    ],
)
def test_options_of_other_servers_are_called_otherwise(
    option: str, way_out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([option, "x", "a:b"])
    assert capsys.readouterr().err == f"fairway: there is no option {option}: {way_out}\n"
