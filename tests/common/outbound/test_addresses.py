"""Which addresses may be called, by whose URL: every spelling that reaches the same place is the same place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_common.outbound.addresses import Reach, refusal

METADATA = (
    *("169.254.169.254", "169.254.170.2", "169.254.1.1", "169.254.169.254%eth0", "fe80::1", "fe80::1%eth0", "febf::1"),
    *("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    *("::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "::169.254.169.254", "64:ff9b::169.254.169.254"),
    *("64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::", "2002:a9fe:a9fe:1::7", "2001:0:a9fe:a9fe::1"),
    *("2001:0:4136:e378:8000:63bf:5601:5601",),  # Teredo: the client behind it, inverted
)
NOWHERE = ("224.0.0.1", "ff02::1", "::ffff:224.0.0.1", "", "localhost", "0x7f.1", "2130706433", "127.1", "1.2.3.4.5")
INSIDE = (
    *("127.0.0.1", "127.8.8.8", "::1", "0.0.0.0", "::", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("100.64.0.1", "fd12::1", "fc00::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::"),
    *("198.18.0.1", "192.0.2.1", "240.0.0.1", "255.255.255.255", "2001:db8::1"),
)
PUBLIC = ("8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8")


@pytest.mark.parametrize("address", METADATA)
def test_where_credentials_are_handed_out_nobody_goes(address: str) -> None:
    for reach in Reach:
        assert "credentials" in (refusal(address, reach) or ""), reach


@pytest.mark.parametrize("address", NOWHERE)
def test_what_is_no_place_is_refused(address: str) -> None:
    for reach in Reach:
        assert refusal(address, reach) is not None


@pytest.mark.parametrize("address", INSIDE)
def test_inside_is_for_operators_only(address: str) -> None:
    assert refusal(address, Reach.OPERATOR) is None
    assert refusal(address, Reach.CALLER) is not None


@pytest.mark.parametrize("address", PUBLIC)
def test_public_is_for_all(address: str) -> None:
    for reach in Reach:
        assert refusal(address, reach) is None


@given(st.ip_addresses())
def test_a_caller_goes_nowhere_an_operator_may_not(address: object) -> None:
    if refusal(str(address), Reach.OPERATOR) is not None:
        assert refusal(str(address), Reach.CALLER) is not None
