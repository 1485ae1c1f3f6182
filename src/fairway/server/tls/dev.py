"""TLS for localhost, during development: an authority for this user, and a certificate that it signs.

Browsers allow some features over https only, and speak HTTP/2 over TLS only. The authority is made once and kept, so
that the user has to trust it only once. Anybody with its key could impersonate any site to a browser that trusts it, so
only this user can read its files.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from fairway.logs import get_logger
from fairway.server.limits import ConfigurationError
from fairway.server.tls.options import TlsOptions

if TYPE_CHECKING:
    import trustme

logger = get_logger("fairway.server")

NAMES = ("localhost", "127.0.0.1", "::1")

_AUTHORITY, _AUTHORITY_KEY, _LOCALHOST = "authority.pem", "authority-key.pem", "localhost.pem"

# Some systems reject certificates that are valid for more than 825 days.
_VALID_DAYS = 800
_KEPT_SECONDS = 400 * 86400.0


def data_folder() -> Path:
    """The folder of this user's authority."""
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "fairway" / "dev-tls"


def authority(folder: Path | None = None) -> Path:
    """The file with the authority's certificate, for browsers to trust."""
    return (folder or data_folder()) / _AUTHORITY


def for_localhost(options: TlsOptions, folder: Path | None = None) -> TlsOptions:
    """The options with a certificate for localhost, made if need be. Raises `ConfigurationError`."""
    if options.certfile:
        raise ConfigurationError("dev_tls makes its own certificate: give either dev_tls or certfile")
    folder = folder or data_folder()
    try:
        made = _certificate(folder)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigurationError(f"dev_tls cannot keep its certificates in {folder}: {reason}") from None
    logger.info("TLS for localhost: make your browser trust the authority in %s, once", authority(folder))
    return replace(options, certfile=str(made), keyfile="", keyfile_password_file="")


def _certificate(folder: Path) -> Path:
    path = folder / _LOCALHOST
    if authority(folder).exists() and path.exists() and time.time() - path.stat().st_mtime < _KEPT_SECONDS:
        return path
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    until = datetime.now(UTC) + timedelta(days=_VALID_DAYS)
    leaf = _authority(folder).issue_cert(*NAMES, common_name="localhost", not_after=until)
    _write(path, leaf.private_key_and_cert_chain_pem.bytes())
    return path


def _authority(folder: Path) -> trustme.CA:
    try:
        # Optional and slow to import: imported only for those who use it.
        import trustme
    except ImportError:
        raise ConfigurationError("dev_tls needs trustme, the extra dev-tls: pip install trustme") from None
    certificate, key = authority(folder), folder / _AUTHORITY_KEY
    if certificate.exists() and key.exists():
        return trustme.CA.from_pem(certificate.read_bytes(), key.read_bytes())
    made = trustme.CA(organization_name="Fairway, for development", organization_unit_name="this computer only")
    _write(key, made.private_key_pem.bytes())
    _write(certificate, made.cert_pem.bytes())
    return made


def _write(path: Path, data: bytes) -> None:
    """Write the whole file or nothing, readable by this user only from the first byte on."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    draft.replace(path)
