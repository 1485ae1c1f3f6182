"""The configurations of `docs/howto/run-behind-a-proxy.md`, as they stand there but for addresses and files.

Each proxy is started in front of the server; requests, uploads and WebSockets go through it. Autobahn's cases go
through HAProxy, which makes WebSockets over HTTP/2 of them.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.docs.pages import split
from tests.examples.running import running
from tests.services.redis import free_port
from tests.suites.applications import HELLO
from tests.suites.conftest import Certificate
from tests.suites.serving import Subject, served
from tests.suites.test_autobahn import INFORMATIONAL, LIMITS, judge
from tests.suites.tools import ROOT, debian

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PAGES = [ROOT / "docs" / "howto" / f"run-behind-a-proxy{language}.md" for language in ("", ".zh-CN")]
DEADLINE = 30.0
UPLOAD = 20_000_000
PROXIES = ["nginx", "haproxy", "caddy"]

NGINX = """daemon off;
user {user};
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{configuration}
}}
"""
CADDY = "{{\n    admin off\n    auto_https disable_redirects\n}}\n{configuration}"


def block(page: Path, language: str) -> str:
    (found,) = [one.text for one in split(page)[0] if one.language == language]
    return found


def put_in_place(configuration: str, port: int, subject: Subject, certificate: Certificate, folder: Path) -> str:
    """The configuration with this test's addresses and files."""
    both = folder / "both.pem"
    both.write_bytes(certificate.chain.read_bytes() + certificate.key.read_bytes())
    places = {
        "127.0.0.1:8000": subject.address,
        "listen 443": f"listen 127.0.0.1:{port}",
        "bind :443": f"bind 127.0.0.1:{port}",
        "example.com {": f"https://127.0.0.1:{port} {{",
        "crt /etc/ssl/example.com.pem": f"crt {both}",
        "/etc/ssl/example.com.pem": str(certificate.chain),
        "/etc/ssl/example.com.key": str(certificate.key),
    }
    for written, ours in places.items():
        configuration = configuration.replace(written, ours)
    assert "example.com" not in configuration.replace("server_name example.com", "")
    return configuration


def command(proxy: str, configuration: str, folder: Path) -> list[str]:
    """What starts the proxy in the foreground."""
    file = folder / f"{proxy}.conf"
    match proxy:
        case "nginx":
            user = "root" if os.geteuid() == 0 else "nobody"
            file.write_text(NGINX.format(folder=folder, user=user, configuration=configuration))
            return [debian("nginx"), "-p", str(folder), "-c", str(file)]
        case "haproxy":
            file.write_text(configuration)
            return [debian("haproxy"), "-db", "-f", str(file)]
        case _:
            file.write_text(CADDY.format(configuration=configuration))
            return [debian("caddy"), "run", "--config", str(file), "--adapter", "caddyfile"]


@contextmanager
def proxied(proxy: str, configuration: str, port: int, folder: Path) -> Iterator[None]:
    """The proxy, once it listens on the port."""
    with running(command(proxy, configuration, folder), folder, HOME=str(folder), XDG_DATA_HOME=str(folder)) as process:
        end = time.monotonic() + DEADLINE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                over = process.process.poll() is not None or time.monotonic() > end
                assert not over, process.text
                time.sleep(0.02)
            else:
                break
        yield


class Proxy:
    """A proxy with a server behind it."""

    def __init__(self, name: str, port: int, certificate: Certificate) -> None:
        self.name = name
        self.address = f"127.0.0.1:{port}"
        self.certificate = certificate

    def get(self, path: str, *options: str) -> bytes:
        """By curl, over HTTP/2 and TLS."""
        trust = ["--cacert", str(self.certificate.authority), "--http2"]
        written = [
            "--silent",
            "--show-error",
            "--max-time",
            "100",
            "--write-out",
            "%{stderr}%{http_version} %{http_code}",
        ]
        curl = [debian("curl"), *trust, *written, *options, f"https://{self.address}{path}"]
        done = subprocess.run(curl, capture_output=True, timeout=110)
        assert (done.returncode, done.stderr) == (0, b"2 200"), done
        return done.stdout


@pytest.fixture(scope="module", params=PROXIES)
def proxy(
    request: pytest.FixtureRequest, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    folder, port = tmp_path_factory.mktemp(request.param), free_port()
    language = {"caddy": "caddyfile"}.get(request.param, request.param)
    with served() as subject:
        configuration = put_in_place(block(PAGES[0], language), port, subject, certificate, folder)
        with proxied(request.param, configuration, port, folder):
            yield Proxy(request.param, port, certificate)


def test_a_request_is_answered(proxy: Proxy):
    assert proxy.get("/") == HELLO


def test_the_client_is_seen_through_the_proxy(proxy: Proxy):
    seen = json.loads(proxy.get("/seen"))

    assert (seen["scheme"], seen["client"][0]) == ("https", "127.0.0.1")
    assert seen["http_version"] == ("2" if proxy.name == "haproxy" else "1.1")


def test_bodies_go_both_ways(proxy: Proxy, tmp_path: Path):
    upload = tmp_path / "upload"
    upload.write_bytes(os.urandom(UPLOAD))

    assert proxy.get("/count", "--upload-file", str(upload)) == str(UPLOAD).encode()
    assert len(proxy.get(f"/bytes/{UPLOAD}")) == UPLOAD


def test_a_websocket_goes_through(proxy: Proxy):
    trust = ssl.create_default_context(cafile=str(proxy.certificate.authority))
    with connect(f"wss://{proxy.address}/", ssl=trust, proxy=None) as connection:
        for message in ("hello", b"\x00\x01", "x" * 100_000):
            connection.send(message)
            assert connection.recv(DEADLINE) == message


@pytest.mark.parametrize("language", ["nginx", "haproxy", "caddyfile"])
def test_both_pages_say_the_same(language: str):
    english, chinese = (block(page, language) for page in PAGES)

    assert english == chinese


def test_autobahn_over_http_2(certificate: Certificate, tmp_path: Path):
    port = free_port()
    configuration = block(PAGES[0], "haproxy")
    bind = next(line for line in configuration.splitlines() if "bind" in line)
    with served(*LIMITS) as subject:
        in_clear = configuration.replace(bind, f"    bind 127.0.0.1:{port}")
        placed = put_in_place(in_clear, port, subject, certificate, tmp_path)
        with proxied("haproxy", placed, port, tmp_path):
            chapters = [f"{chapter}.*" for chapter in (1, 2, 3, 4, 5, 6, 7, 9, 10)]
            verdicts, _ = judge(chapters, f"127.0.0.1:{port}", tmp_path / "reports")

    assert len(verdicts) == 301
    odd = {case: verdict for case, verdict in verdicts.items() if verdict != ("OK", "OK")}
    assert odd == dict.fromkeys(INFORMATIONAL, ("INFORMATIONAL", "INFORMATIONAL"))
