"""A rule and its exceptions, asked with a host and the addresses it was resolved to."""

import pytest

from aisix_common.outbound import AddressRefused, Guard
from aisix_common.outbound.addresses import Reach

LINK = "169.254.10.20"


@pytest.mark.parametrize(
    ("lifted", "host", "addresses", "good"),
    [
        ((), "provider.example", ["8.8.8.8", "10.0.0.1"], True),
        ((), "provider.example", [LINK], False),
        ((), "provider.example", ["8.8.8.8", LINK], False),
        (("proxy.internal",), "proxy.internal", [LINK], True),
        (("Proxy.Internal.",), "proxy.internal", [LINK], True),
        (("proxy.internal",), "PROXY.internal.", [LINK], True),
        (("proxy.internal",), "other.internal", [LINK], False),
        (("internal",), "proxy.internal", [LINK], False),
        ((LINK,), LINK, [LINK], True),
        ((LINK,), "169.254.169.254", ["169.254.169.254"], False),
        (("[FE80::1]",), "fe80::1", ["fe80::1"], True),
        (("fe80:0::1",), "[fe80::1]", ["fe80::1"], True),
    ],
)
def test_an_operators_urls(lifted: tuple[str, ...], host: str, addresses: list[str], good: bool) -> None:
    guard = Guard(Reach.OPERATOR, lifted)
    if good:
        guard.check(host, addresses)
        return
    with pytest.raises(AddressRefused) as refused:
        guard.check(host, addresses)
    assert "upstream.metadata_hosts" in str(refused.value)
    assert host == LINK or LINK not in str(refused.value)


def test_what_operators_except_is_not_excepted_for_callers() -> None:
    with pytest.raises(AddressRefused):
        Guard(Reach.CALLER, ["proxy.internal"]).check("proxy.internal", [LINK])
    with pytest.raises(AddressRefused):
        Guard(Reach.CALLER).check("inside.example", ["127.0.0.1"])
