"""What a secret manager is to the resolver: a client that fetches one secret, and the ways in which that can fail.

A client is made for one provider, whose own secrets are in clear by then, and closed when the provider changes. It
keeps no values: that is the cache's. Reasons are shown to operators; none holds a secret or an answer's body.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import aiohttp

from aisix_common.clock import Clock
from aisix_common.secret import Secret


class Unresolved(Exception):
    """A secret could not be had. The message is the reason."""

    stays_good: ClassVar[bool] = False
    """Whether a value that was had before may be used on for a while: nothing says that it is wrong."""


class NoSuchSecret(Unresolved):
    """The manager answered: there is no such secret, or no such key in it, or nothing that can be used as one."""


class Unusable(Unresolved):
    """The provider or the reference cannot work as it is written, or the manager's library is not installed."""


class Refused(Unresolved):
    """The manager does not let us in, or not at this secret."""

    stays_good = True


class Away(Unresolved):
    """The manager cannot be reached, is sealed, throttles us, fails, or takes too long."""

    stays_good = True


@dataclass(frozen=True, slots=True)
class Fetched:
    """A secret as the manager has it now."""

    value: Secret
    lifetime: float | None = None
    """Seconds after which it will be another one, where the manager says so."""


@dataclass(frozen=True, slots=True)
class Context:
    """What clients are built on."""

    open_session: Callable[[str | None], aiohttp.ClientSession]
    """A session whose connections are checked against the address rules, which follows no redirects unless asked to;
    the argument is PEM of an authority trusted besides the system's. Whoever opens it closes it."""
    environ: Mapping[str, str]
    clock: Clock
    timeout: float
    """Seconds one fetch may take in all."""
    kubernetes_allow: Sequence[str] = ()
    """`secrets.kubernetes_allow`: patterns of `<namespace>/<name>`."""
    service_account_hosts: Sequence[str] = ()
    """`secrets.service_account_hosts`: patterns of hosts that the pod's token may be sent to."""
    service_account: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount")
    """Where the pod's token, certificate authority and namespace lie. Read anew at each use: tokens rotate."""


class ManagerClient(Protocol):
    """Talks to one provider. May be called by several tasks at once."""

    async def fetch(self, path: Sequence[str]) -> Fetched:
        """The secret that a reference's path leads to. Raises Unresolved (its kinds above), and nothing else that is
        not a mistake of ours. The caller bounds the time, too."""
        ...

    async def probe(self) -> None:
        """Whether the manager is reached and lets us in, without reading a secret. Raises Unresolved."""
        ...

    async def aclose(self) -> None:
        """Give back what is held."""
        ...


Make = Callable[[Any, Context], ManagerClient]
"""Makes a client for a provider (one of the Structs of `secret_providers`). Opens nothing yet. Raises Unusable."""
