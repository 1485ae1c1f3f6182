"""Names in certificates, as one text."""

from __future__ import annotations

import pytest

from fairway.server.tls.names import distinguished_name


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ((), ""),
        (((("countryName", "DE"),), (("organizationName", "Port"),), (("commonName", "ann"),)), "CN=ann,O=Port,C=DE"),
        (((("commonName", "ann"), ("userId", "7")),), "CN=ann+UID=7"),
        (((("emailAddress", "ann@example.com"),),), "emailAddress=ann@example.com"),
        (((("commonName", 'a,b+c"d\\e<f>g;h'),),), r"CN=a\,b\+c\"d\\e\<f\>g\;h"),
        (((("commonName", "# a "),),), r"CN=\# a\ "),
        (((("commonName", " a#b c"),),), r"CN=\ a#b c"),
        (((("commonName", "a\0b"),),), r"CN=a\00b"),
        (((("commonName", "Łódź"),),), "CN=Łódź"),
    ],
)
def test_rfc_4514_the_most_specific_part_comes_first_and_what_is_special_is_escaped(subject: object, text: str) -> None:
    assert distinguished_name({"subject": subject}) == text
