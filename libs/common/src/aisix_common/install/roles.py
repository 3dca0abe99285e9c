"""Who may do what in etcd: one role for each service, as design 5 has it. Pure.

A role holds what the service reads and writes in the mode that is run, and nothing else; `tests/deploy/` runs the
services with them, and shows what each may not do. A service that begins to use another key adds it here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from aisix_common.managed.budgets import asked_root, decided_root
from aisix_common.managed.outbox import outbox_root
from aisix_common.managed.projected import projection_key
from aisix_common.secrets.canary import canary_key
from aisix_common.secrets.probe import probes_prefix
from aisix_common.settings.storage import Etcd

SERVICES: Final = ("proxy", "admin", "cloud-agent")
"""All that may have a user; who has one depends on the mode."""

Kind = Literal["READ", "WRITE", "READWRITE"]


@dataclass(frozen=True, slots=True)
class Grant:
    """One permission: on a key, or on all that start with it."""

    kind: Kind
    key: str
    prefix: bool = True

    @property
    def range_end(self) -> str:
        """As etcd has it: "" for the key alone."""
        return self.key[:-1] + chr(ord(self.key[-1]) + 1) if self.prefix else ""


def roles(etcd: Etcd, *, managed: bool) -> Mapping[str, tuple[Grant, ...]]:
    """The services of the mode, and what each is granted; `etcd` says where the roots are."""
    return (
        {"proxy": (*_proxy(etcd), *_managed_proxy(etcd)), "cloud-agent": _cloud_agent(etcd)}
        if managed
        else {"proxy": _proxy(etcd), "admin": _admin(etcd)}
    )


def _proxy(etcd: Etcd) -> tuple[Grant, ...]:
    run = etcd.run_root
    return (
        Grant("READ", f"{etcd.resource_root}/"),
        Grant("READ", f"{etcd.ext_root}/"),
        Grant("WRITE", f"{run}/instances/"),
        Grant("READ", probes_prefix(run)),
        Grant("WRITE", f"{run}/asking/"),
    )


def _managed_proxy(etcd: Etcd) -> tuple[Grant, ...]:
    run = etcd.run_root
    return (
        Grant("READ", projection_key(run), prefix=False),
        Grant("READ", decided_root(run)),
        Grant("WRITE", asked_root(run)),
        Grant("READWRITE", outbox_root(run)),  # read: where it, or one that is gone, had got to
    )


def _admin(etcd: Etcd) -> tuple[Grant, ...]:
    run = etcd.run_root
    return (
        Grant("READWRITE", f"{etcd.resource_root}/"),
        Grant("READWRITE", f"{etcd.ext_root}/"),
        Grant("READWRITE", canary_key(run), prefix=False),
        Grant("READWRITE", f"{run}/turn", prefix=False),
        Grant("READWRITE", f"{run}/turn-ext", prefix=False),
        Grant("READWRITE", f"{run}/history/"),
        Grant("READWRITE", f"{run}/audit/"),
        Grant("WRITE", probes_prefix(run)),
        Grant("READ", f"{run}/asking/"),
        Grant("READ", f"{run}/instances/"),
    )


def _cloud_agent(etcd: Etcd) -> tuple[Grant, ...]:
    run = etcd.run_root
    return (
        Grant("READWRITE", f"{etcd.resource_root}/"),
        Grant("READWRITE", f"{etcd.ext_root}/"),
        Grant("READWRITE", canary_key(run), prefix=False),
        Grant("READWRITE", projection_key(run)),  # it is read as a range, at older revisions
        Grant("READWRITE", f"{run}/agent/"),
        Grant("READWRITE", outbox_root(run)),  # written: what the Cloud has is deleted
        Grant("READ", asked_root(run)),
        Grant("READWRITE", decided_root(run)),
        Grant("READ", f"{run}/instances/"),
    )
