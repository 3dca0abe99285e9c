"""The body of a heartbeat: what an instance says of itself, as the Cloud wants to hear it (control-plane 6.3). Pure."""

from datetime import datetime
from typing import Any, Final

import msgspec

from ..identity.identity import Identity
from ..projection.layout import CLOUD_EXT_ROOT, CLOUD_ROOT
from .instances import InstanceRow, RejectedRow

MOST_HASH: Final = 128
MOST_REJECTED: Final = 256
MOST_FIELDS: Final = 256
MOST_TEXT: Final = 256
"""What an instance's row holds is bounded already; another version's might not be."""


def beat(identity: Identity, id: str, row: InstanceRow, cloud_revision: int, now: datetime) -> bytes:
    """The JSON text. `cloud_revision`: the one that the instance has applied, 0: none; `now` is aware."""
    body: dict[str, Any] = {
        "dp_id": identity.dp_id,
        "instance_id": id,
        "hostname": row.hostname,
        "uptime_seconds": _uptime(row.started_at, now),
        "version": row.version,
        "supported_guardrail_kinds": row.supported_guardrail_kinds,
        "applied_revision": cloud_revision,
    }
    if row.config_hash:
        body["config_hash"] = row.config_hash[:MOST_HASH]
    body["exporter_health"] = ()  # proxies export nothing yet
    if row.rejected:
        body["rejected_resources"] = [_rejected(each, identity.env_id) for each in row.rejected[:MOST_REJECTED]]
    if row.partially_compatible:
        body["partially_compatible_resources"] = row.partially_compatible[:MOST_FIELDS]
    return msgspec.json.encode(body)


def _rejected(row: RejectedRow, env_id: str) -> dict[str, Any]:
    root = CLOUD_EXT_ROOT if row.external else CLOUD_ROOT
    below = f"{row.kind}/{row.id}" if row.kind else row.key
    told: dict[str, Any] = {
        "key": f"{root}/{env_id}/{below}",
        "kind": row.failure,
        "error": row.reason[:MOST_TEXT],
        "timestamp_unix_secs": row.at,
    }
    if row.stale_since is not None:
        told["stale_serving_since_unix_secs"] = row.stale_since
    return told


def _uptime(started_at: str, now: datetime) -> int:
    """Seconds since then; 0 where that says nothing."""
    try:
        started = datetime.fromisoformat(started_at)
    except ValueError:
        return 0
    if started.tzinfo is None:
        return 0
    return max(0, int((now - started).total_seconds()))
