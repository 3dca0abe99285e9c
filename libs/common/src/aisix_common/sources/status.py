"""What operators see of the configuration: the body of `/status/config`, and the numbers of the metrics.

Pure functions of a snapshot and its source's status (control-plane 2.7). Nothing here holds a value of a resource.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import nlargest
from typing import Any, Final, Literal, TypeAlias

from aisix_common.clock import rfc3339
from aisix_common.secrets.envelope import NO_KEYRING, Keyring
from aisix_common.snapshot import RejectedRow, Snapshot, config_hash, source_hash

from .observed import SourceStatus

State: TypeAlias = Literal["synced", "degraded", "out_of_sync", "empty", "never_loaded"]

MOST_LISTED: Final = 256
"""Rejected rows that are listed: the newest ones. Counts are never cut."""
UNCOUNTED_IN_FILES: Final = frozenset({"oidc_providers", "claim_mappings", "mcp_auth_settings", "mcp_policies"})
"""Kinds that `resource_counts` leaves out in file mode, as other gateways do (control-plane 4)."""
OTHER_KIND: Final = "unknown"
"""Stands for kinds nobody knows where names must be few (metrics): their names are chosen by whoever writes rows."""


@dataclass(frozen=True, slots=True)
class NotServed:
    """Rows that are sound and have no effect yet, and why."""

    kind: str
    count: int
    reason: str


def state(snapshot: Snapshot, status: SourceStatus | None = None, external: Snapshot | None = None) -> State:
    """How well what is served agrees with what the source holds; `external` as in `config_status`."""
    if snapshot.apply_seq == 0:
        return "never_loaded"
    if status is not None and status.file.failed:
        return "out_of_sync"
    if any(len(each.rejected) for each in _roots(snapshot, external)):
        return "degraded" if snapshot.served else "out_of_sync"
    return "synced" if snapshot.served else "empty"


def config_status(
    snapshot: Snapshot,
    status: SourceStatus,
    not_served: Sequence[NotServed] = (),
    external: Snapshot | None = None,
    keyring: Keyring = NO_KEYRING,
) -> dict[str, Any]:
    """The body of `/status/config`. Reads every row for the hashes: call it in a thread.

    `not_served`: what is sound, and the service that asks cannot serve it yet. `external`: the rows under the ext root,
    whose kinds other gateways do not know. They are listed, and no part of the hashes. `keyring`: as for the hashes.
    """
    roots = _roots(snapshot, external)
    body: dict[str, Any] = {"state": state(snapshot, status, external), "source": _source(snapshot, status, keyring)}
    if snapshot.apply_seq:
        body["applied"] = _applied(snapshot, status, external, keyring)
    if status.last_reload:
        body["last_reload"] = {"successful": status.last_reload.successful, "at": rfc3339(status.last_reload.at)}
    failure = status.last_failure
    body["last_failure"] = failure and {
        "at": rfc3339(failure.at),
        "last_error_kind": failure.kind,
        "last_error": failure.message,
    }
    body["rejected"] = [_rejected(row, status.at) for row in _newest(roots, status)]
    body["partially_compatible"] = [
        {"resource_kind": kind, "field": path, "count": count}
        for root in roots
        for (kind, path), count in sorted(unknown_fields(root).items())
    ]
    body["shadowed"] = _shadowed(roots)
    body["not_served"] = [
        {"resource_kind": each.kind, "count": each.count, "reason": each.reason} for each in not_served
    ]
    return body


@dataclass(frozen=True, slots=True)
class ConfigNumbers:
    """The values of the `aisix_config_*` metrics, named as they are. None: the sample is absent."""

    last_reload_successful: int
    last_reload_success_timestamp_seconds: float | None
    reloads_total: int
    reload_failures_total: Mapping[str, int]
    """By reason."""
    rejected_resources: Mapping[str, int]
    """By kind, as the next two: every kind that is served is there, with 0 if need be."""
    partially_compatible_resources: Mapping[str, int]
    stale_served_resources: Mapping[str, int]
    observed_revision: int | None
    applied_revision: int | None
    source_connected: int | None


def config_numbers(snapshot: Snapshot, status: SourceStatus, external: Snapshot | None = None) -> ConfigNumbers:
    """The numbers for the metrics; cheap, but for the rows that are rejected. `external` as in `config_status`."""
    tables = {name: table for root in _roots(snapshot, external) for name, table in root.tables.items()}
    rejected, stale = Counter(dict.fromkeys(tables, 0)), Counter(dict.fromkeys(tables, 0))
    found = [(row, root) for root in _roots(snapshot, external) for row in root.rejected.values()]
    for row, root in (*found, *((row, snapshot) for row in status.file.refused)):
        label = row.kind if row.kind in root.tables else OTHER_KIND
        rejected[label] += 1
        stale[label] += row.stale_since is not None
    reload, etcd = status.last_reload, status.type == "etcd"
    return ConfigNumbers(
        last_reload_successful=int(reload is not None and reload.successful),
        last_reload_success_timestamp_seconds=status.last_success.timestamp() if status.last_success else None,
        reloads_total=status.reloads,
        reload_failures_total={reason: status.failures.get(reason, 0) for reason in ("fetch", "parse", "validate")},
        rejected_resources=rejected,
        partially_compatible_resources={name: len(table.unknown) for name, table in tables.items()},
        stale_served_resources=stale,
        observed_revision=status.observed_revision if etcd else None,
        applied_revision=status.applied_revision if etcd else None,
        source_connected=int(status.connected) if etcd else None,
    )


def unknown_fields(snapshot: Snapshot) -> Counter[tuple[str, str]]:
    """How many rows carry each unknown field, by (kind, path)."""
    return Counter(
        (kind, path) for kind, table in snapshot.tables.items() for paths in table.unknown.values() for path in paths
    )


def _source(snapshot: Snapshot, status: SourceStatus, keyring: Keyring) -> dict[str, Any]:
    source: dict[str, Any] = {"type": status.type}
    if status.type == "etcd":
        source["connected"] = status.connected
        if status.observed_revision is not None:
            source["observed_revision"] = status.observed_revision
    if snapshot.apply_seq:
        source["source_hash"] = status.file.source_digest if status.type == "file" else source_hash(snapshot, keyring)
    if status.observed_at:
        source["observed_at"] = rfc3339(status.observed_at)
    return source


def _applied(snapshot: Snapshot, status: SourceStatus, external: Snapshot | None, keyring: Keyring) -> dict[str, Any]:
    applied: dict[str, Any] = {}
    if status.type == "etcd":
        revision = status.applied_revision
        applied["applied_revision"] = snapshot.revision if revision is None else revision
    applied["config_hash"] = status.file.served_digest if status.type == "file" else config_hash(snapshot, keyring)
    applied["apply_seq"] = snapshot.apply_seq
    if snapshot.applied_at:
        applied["applied_at"] = rfc3339(snapshot.applied_at)
    applied["resource_counts"] = {
        name: len(table.by_id)
        for name, table in sorted(item for root in _roots(snapshot, external) for item in root.tables.items())
        if len(table.by_id) and not (status.type == "file" and name in UNCOUNTED_IN_FILES)
    }
    return applied


def _roots(snapshot: Snapshot, external: Snapshot | None) -> tuple[Snapshot, ...]:
    return (snapshot,) if external is None else (snapshot, external)


def _newest(roots: Sequence[Snapshot], status: SourceStatus) -> list[RejectedRow]:
    rows = [*(row for root in roots for row in root.rejected.values()), *status.file.refused]
    newest = nlargest(MOST_LISTED, rows, key=lambda row: (row.last_seen, row.revision))
    return sorted(newest, key=lambda row: (row.kind, row.id))


def _rejected(row: RejectedRow, now: datetime | None) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "resource_kind": row.kind,
        "resource_id": row.id,
        "last_error_kind": row.failure,
        "last_error": row.message,
        "first_seen_at": rfc3339(row.first_seen),
        "last_seen_at": rfc3339(row.last_seen),
    }
    if row.stale_since is not None:
        shown["serving_stale_since"] = rfc3339(row.stale_since)
        shown["serving_stale_age_seconds"] = _seconds(row.stale_since, now)
    return shown


def _seconds(since: datetime, now: datetime | None) -> int:
    return max(0, int((now - since).total_seconds())) if now else 0


def _shadowed(roots: Sequence[Snapshot]) -> list[dict[str, str]]:
    rows = [
        {"resource_kind": kind, "resource_id": row_id, "shadowed_by": winner}
        for root in roots
        for kind, table in root.tables.items()
        for row_id, winner in table.shadowed()
    ]
    return sorted(rows, key=lambda row: (row["resource_kind"], row["resource_id"]))[:MOST_LISTED]
