"""Names in certificates, as one text (RFC 4514)."""

from __future__ import annotations

import re
from typing import Any

# From RFC 4514 section 3. Other attributes are written with OpenSSL's names.
_SHORT = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
_SPECIAL = re.compile(r'[,+"\\<>;]|^[ #]| $')


def distinguished_name(certificate: Any) -> str:
    """The subject of a certificate as `ssl.SSLSocket.getpeercert` returns it: the most specific part first."""
    parts = [
        "+".join(f"{_SHORT.get(name, name)}={_escaped(value)}" for name, value in part)
        for part in certificate.get("subject", ())
    ]
    return ",".join(reversed(parts))


def _escaped(value: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", value).replace("\0", r"\00")
