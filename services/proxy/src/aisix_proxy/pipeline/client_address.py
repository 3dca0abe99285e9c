"""Who is calling: the address of the caller behind trusted proxies (data-plane 2.7). Pure."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

from multidict import CIMultiDictProxy

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


def parse_address(text: str) -> Address | None:
    """`ip`, `ip:port`, `[v6]` or `[v6]:port`; None for anything else. IPv4 mapped into IPv6 counts as IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


class AddressRule:
    """`proxy.real_ip`, compiled. A peer that is not trusted is the caller, whatever its headers say."""

    __slots__ = ("_header", "_networks", "_recursive")

    def __init__(self, trusted: Sequence[Network], *, recursive: bool, header: str) -> None:
        self._networks = tuple(trusted)
        self._recursive = recursive
        self._header = header

    def resolve(self, peer: str, headers: CIMultiDictProxy[str]) -> str:
        """The caller's address as text; `peer` is the other end of the connection."""
        if not self._networks:
            return peer
        nearest = parse_address(peer)
        if nearest is None or not within(nearest, self._networks):
            return peer
        told = ",".join(headers.getall(self._header, ()))
        addresses = [address for part in told.split(",") if (address := parse_address(part)) is not None]
        if not addresses:
            return peer
        if not self._recursive:
            return str(addresses[-1])
        for address in reversed(addresses):
            if not within(address, self._networks):
                return str(address)
        return str(addresses[0])
