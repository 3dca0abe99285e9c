"""Which addresses a URL may lead to. Pure: judged is what a name was resolved to, never how it was written, so decimal,
octal and mapped spellings, and names that change their mind, are all the same here.

A URL that an operator set may lead into the cluster (private and loopback addresses), but not to where clouds hand out
credentials: link-local addresses and metadata services. A URL that a caller has a say in leads to public
addresses only.
"""

from collections.abc import Iterator
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address


class Reach(Enum):
    """Who chose the URL."""

    OPERATOR = "operator"
    CALLER = "caller"


_METADATA: Final = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",  # AWS, Azure, Google, Oracle and others
            "169.254.170.2",  # AWS ECS
            "169.254.170.23",  # AWS EKS Pod Identity
            "fd00:ec2::254",  # AWS over IPv6
            "fd00:ec2::23",
            "fd20:ce::254",  # Google over IPv6
            "100.100.100.200",  # Alibaba
            "168.63.129.16",  # Azure's host agent
            "192.0.0.192",  # Oracle
        ),
    )
)
_EMBEDDING: Final = (
    (IPv6Network("::/96"), 0),
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("64:ff9b:1::/48"), 0),
    (IPv6Network("2002::/16"), 80),
)
"""Networks whose addresses carry an IPv4 one, and how many bits lie behind it (RFC 4291, 6052, 8215, 3056)."""


def refusal(address: str, reach: Reach) -> str | None:
    """Why nothing may connect to `address` (an IP address, with or without a zone); None where it may."""
    try:
        given = ip_address(address.partition("%")[0])
    except ValueError:
        return "is no IP address"
    meant = tuple(_meant(given))
    if any(each in _METADATA or each.is_link_local for each in meant):
        return "is link-local or a cloud's metadata service, where credentials are handed out"
    if any(each.is_multicast for each in meant):
        return "is a multicast address"
    if reach is Reach.CALLER and not all(each.is_global for each in meant):
        return "is not public"
    return None


def _meant(address: Address) -> Iterator[Address]:
    """The address, and the one inside of it that a gateway on the way, or the kernel, would really go to."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        yield address.ipv4_mapped  # the kernel goes there; the mapped form itself is never "global"
        return
    yield address
    if isinstance(address, IPv4Address):
        return
    if address.teredo is not None:
        yield from address.teredo
    for network, behind in _EMBEDDING:
        if address in network and int(address) > 1:
            yield IPv4Address((int(address) >> behind) & 0xFFFFFFFF)
