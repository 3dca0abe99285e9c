"""Providers that there are, or may be, and that are not known here: out of service, or not read yet. Pure.

A reference to one of them must not be taken for the short form, whose path begins where the provider's name stands: it
would lead to another provider's secret.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from aisix_common.resources import SECRET_PROVIDERS
from aisix_common.secrets.reference import BadReference, SecretReference
from aisix_common.snapshot import Snapshot


class _Named(msgspec.Struct):
    manager: str
    name: str


@dataclass(frozen=True, slots=True)
class Missing:
    """What is known of them."""

    hint: str = ""
    """For operators, behind the reason why a reference leads to no provider."""
    unread: bool = False
    """None of etcd's are known."""
    identities: frozenset[str] = frozenset()
    """`<manager>/<name>` of those that are out of service, where their rows can be read so far."""

    def check(self, reference: SecretReference, known: frozenset[str]) -> None:
        """Raise BadReference where the first segment may be the name of one of them; `known` are its manager's."""
        first = reference.segments[0]
        if first in known:
            return
        if f"{reference.manager}/{first}" in self.identities:
            raise BadReference(f"leads to the provider {reference.manager}/{first}, which is out of service")
        if self.unread:
            raise BadReference(f"begins with no {reference.manager} provider that is known so far")


NOTHING: Final = Missing()
UNREAD: Final = Missing(
    " (secret_providers were not read from etcd yet: see the log, and whether etcd lets us read the ext root)", True
)


def missing_of(providers: Snapshot | None) -> Missing:
    """What a snapshot of the ext root does not serve; None: there is no such root."""
    if providers is None or not len(providers.rejected):
        return NOTHING
    hint = f" ({len(providers.rejected)} rows of secret_providers are out of service: see /status/config)"
    return Missing(hint, identities=frozenset(_identities(providers)))


def _identities(providers: Snapshot) -> Iterator[str]:
    for row in providers.rejected.values():
        if row.kind == SECRET_PROVIDERS.name and row.stale_since is None:
            try:
                named = msgspec.json.decode(row.raw, type=_Named)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                continue
            yield f"{named.manager}/{named.name}"
