"""A certificate for localhost: made once, kept for one user, renewed in time."""

from __future__ import annotations

import os
import re
import ssl
import stat
import sys
from pathlib import Path

import pytest
from tests.fairway.server.tls.certificates import trustme

from fairway.server.limits import ConfigurationError, Limits
from fairway.server.tls.dev import authority, data_folder, for_localhost
from fairway.server.tls.files import Credentials


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    trustme()
    return tmp_path / "share" / "dev-tls"


def test_it_is_made_once_and_readable_by_its_user_only(folder: Path) -> None:
    before = os.umask(0)
    try:
        options = for_localhost(Limits(dev_tls=True), folder)
    finally:
        os.umask(before)

    names = sorted(path.name for path in folder.iterdir())
    assert names == ["authority-key.pem", "authority.pem", "localhost.pem"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert options.certfile == str(folder / "localhost.pem")
    held = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert for_localhost(Limits(dev_tls=True), folder) == options
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == held


def test_who_trusts_the_authority_trusts_the_server(folder: Path) -> None:
    server = Credentials(for_localhost(Limits(dev_tls=True), folder)).context
    for name in ("localhost", "127.0.0.1", "::1"):
        client = ssl.create_default_context(cafile=str(authority(folder)))
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = (
            client.wrap_bio(to_client, to_server, server_hostname=name),
            server.wrap_bio(to_server, to_client, server_side=True),
        )
        for end in (*ends, *ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
        assert ends[0].version() == "TLSv1.3"


def test_an_old_certificate_is_renewed_by_the_same_authority(folder: Path) -> None:
    path = Path(for_localhost(Limits(dev_tls=True), folder).certfile)
    held, trusted = path.read_bytes(), authority(folder).read_bytes()
    year = 365 * 86400
    os.utime(path, (path.stat().st_atime - 2 * year, path.stat().st_mtime - 2 * year))

    for_localhost(Limits(dev_tls=True), folder)

    assert path.read_bytes() != held
    assert authority(folder).read_bytes() == trusted


def test_without_the_extra_one_sentence_names_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(ConfigurationError, match=r"^dev_tls needs trustme, the extra dev-tls: pip install trustme$"):
        for_localhost(Limits(dev_tls=True), folder)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    trustme()
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "dev-tls"
    with pytest.raises(ConfigurationError, match=f"^dev_tls .*{re.escape(str(folder))}.*: not a directory$"):
        for_localhost(Limits(dev_tls=True), folder)


def test_it_is_kept_where_the_users_data_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert data_folder() == Path("/data/fairway/dev-tls")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert data_folder() == Path.home() / ".local/share/fairway/dev-tls"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert data_folder() == Path.home() / "Library/Application Support/fairway/dev-tls"
