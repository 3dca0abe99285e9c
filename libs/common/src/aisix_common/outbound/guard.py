"""The address rule of one kind of call, with the hosts that are excepted from it. Asked for every connection, with the
very address that is then connected to: nobody resolves a second time."""

import errno
from collections.abc import Collection, Iterable
from ipaddress import ip_address

from .addresses import Reach, refusal


class AddressRefused(OSError):
    """A connection that must not be made. The message names the host as it was configured, and no address."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.EACCES, message)

    def __str__(self) -> str:
        return str(self.strerror)


class Guard:
    """Immutable."""

    def __init__(self, reach: Reach, lifted: Collection[str] = ()) -> None:
        """`lifted`: hosts, as they stand in URLs, for which an operator's URL may lead anywhere
        (`upstream.metadata_hosts`). They count for nothing where a caller has a say."""
        self._reach = reach
        self._lifted = frozenset(map(_canonical, lifted)) if reach is Reach.OPERATOR else frozenset()

    def lifts(self, host: str) -> bool:
        """Whether the rule does not hold for `host`."""
        return bool(self._lifted) and _canonical(host) in self._lifted

    def check(self, host: str, addresses: Iterable[str]) -> None:
        """Raise AddressRefused when one of the addresses that `host` was resolved to may not be called. One is enough:
        a name that leads to a forbidden address as well is not to be trusted with the others."""
        if self.lifts(host):
            return
        for address in addresses:
            reason = refusal(address, self._reach)
            if reason is not None:
                hint = (
                    ""
                    if self._reach is Reach.CALLER
                    else "; where that is meant, name the host in upstream.metadata_hosts"
                )
                raise AddressRefused(f"the address of {host} {reason}{hint}")


def _canonical(host: str) -> str:
    """One spelling for a host: lower case, no brackets, no trailing dot, addresses as they are usually written."""
    text = host.strip().strip("[]").rstrip(".").lower()
    try:
        return str(ip_address(text))
    except ValueError:
        return text
