"""Who is calling, behind proxies that are trusted and proxies that are not."""

from ipaddress import ip_network

import pytest

from aisix_proxy.pipeline.client_address import AddressRule, parse_address

from tests.support.builders import headers_of

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "told", "last", "recursive"),
    [
        ("192.0.2.1", ["1.1.1.1"], "192.0.2.1", "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1", "10.0.0.1"),
        ("10.0.0.1", ["junk, unknown"], "10.0.0.1", "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, 10.0.0.2"], "10.0.0.2", "1.1.1.1"),
        ("10.0.0.1", ["1.1.1.1, 2.2.2.2:80, 10.0.0.2"], "10.0.0.2", "2.2.2.2"),
        ("10.0.0.1", ["1.1.1.1", "2.2.2.2, junk"], "2.2.2.2", "2.2.2.2"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.2", "10.0.0.3"),
        ("::ffff:10.0.0.1", ["[2001:db8::1]:443"], "2001:db8::1", "2001:db8::1"),
        ("fd00::1", ["::ffff:1.1.1.1"], "1.1.1.1", "1.1.1.1"),
        ("", ["1.1.1.1"], "", ""),
    ],
)
def test_resolve(peer: str, told: list[str], last: str, recursive: str) -> None:
    headers = headers_of([("X-Forwarded-For", value) for value in told])
    for deep, expected in ((False, last), (True, recursive)):
        rule = AddressRule(TRUSTED, recursive=deep, header="x-forwarded-for")
        assert rule.resolve(peer, headers) == expected


def test_nobody_is_trusted_by_default() -> None:
    rule = AddressRule([], recursive=True, header="x-forwarded-for")
    assert rule.resolve("10.0.0.1", headers_of({"x-forwarded-for": "1.1.1.1"})) == "10.0.0.1"


@pytest.mark.parametrize("text", ["", "x", "1.1.1", "1.1.1.1:x:y", "[::1", "host:80", "1.1.1.1/8"])
def test_no_addresses(text: str) -> None:
    assert parse_address(text) is None or text == "[::1"
