"""What gateways told the Cloud: heartbeats, and usage events, each counted once. Events are kept on disk as they come.

An event is known by `request_id` and `attempt_index`. Sent again it is counted as a duplicate, and as a conflict where
it says something else than the first time.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .enrolment import Refused
from .issuer import Identity

MOST_EVENTS: Final = 100
_HEARTBEAT: Final = {
    "dp_id": str,
    "instance_id": str,
    "hostname": str,
    "uptime_seconds": int,
    "version": str,
    "supported_guardrail_kinds": list,
    "applied_revision": int,
    "exporter_health": list,
}
_EVENT: Final = {
    "request_id": str,
    "occurred_at": str,
    "model_id": str,
    "api_key_id": str,
    "prompt_tokens": int,
    "completion_tokens": int,
    "upstream_latency_ms": int,
    "status_code": int,
    "cost_usd": (int, float, str),
    "guardrail_blocked": bool,
    "attempt_index": int,
}


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One heartbeat: who sent it, what it said, and as which program."""

    sender: Identity
    document: Mapping[str, Any]
    user_agent: str


@dataclass(frozen=True, slots=True)
class Event:
    """One usage event as it came first."""

    env_id: str
    dp_id: str
    document: Mapping[str, Any]


class Ledger:
    """What has arrived; `path` holds the events, also those of an earlier life."""

    def __init__(self, path: Path) -> None:
        self.heartbeats: list[Heartbeat] = []
        self.events: dict[tuple[str, int], Event] = {}
        """By request id and attempt index, in the order of their arrival."""
        self.batches: list[int] = []
        """How many events each call brought."""
        self.duplicates = 0
        self.conflicts = 0
        self._path = path
        path.touch()
        whole, _, torn = path.read_bytes().rpartition(b"\n")
        if torn:  # an earlier life ended within a write: nobody was told that this one was accepted
            os.truncate(path, len(whole) + 1 if whole else 0)
        for line in whole.splitlines():
            kept = json.loads(line)
            self._note(Event(kept["env_id"], kept["dp_id"], kept["document"]))

    def beat(self, sender: Identity, document: object, user_agent: str) -> None:
        """Take a heartbeat. Raises Refused: 403 of another gateway, 422 not as the contract says."""
        checked = _checked(document, _HEARTBEAT, "heartbeat")
        if checked["dp_id"] != sender.dp_id:
            raise Refused(403, "dp_id: is not the certificate's")
        self.heartbeats.append(Heartbeat(sender, checked, user_agent))

    def take(self, sender: Identity, document: object) -> None:
        """Take a batch of events, all or none. Raises Refused: 413 too many, 422 not as the contract says."""
        events = document.get("events") if isinstance(document, dict) else None
        if not isinstance(events, list):
            raise Refused(422, "events: must be an array")
        if len(events) > MOST_EVENTS:
            raise Refused(413, f"events: at most {MOST_EVENTS} in a call")
        checked = [_checked(each, _EVENT, f"events[{index}]") for index, each in enumerate(events)]
        self._keep(sender, checked)
        self.batches.append(len(checked))

    def _keep(self, sender: Identity, documents: Sequence[Mapping[str, Any]]) -> None:
        fresh = [
            event for event in (Event(sender.env_id, sender.dp_id, each) for each in documents) if self._note(event)
        ]
        # Written, not only buffered, before the answer: who was told "accepted" forgets the event.
        with self._path.open("ab", buffering=0) as file:
            file.write(
                b"".join(
                    json.dumps({"env_id": each.env_id, "dp_id": each.dp_id, "document": each.document}).encode() + b"\n"
                    for each in fresh
                )
            )

    def _note(self, event: Event) -> bool:
        """Whether it is a new one."""
        key = str(event.document["request_id"]), int(event.document["attempt_index"])
        known = self.events.setdefault(key, event)
        if known is event:
            return True
        self.duplicates += 1
        self.conflicts += known != event
        return False


def _checked(document: object, fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The document, if it has what the contract always wants. Raises Refused 422 with what is missing."""
    if not isinstance(document, dict):
        raise Refused(422, f"{name}: must be an object")
    wrong = [
        field
        for field, kind in fields.items()
        if not isinstance(document.get(field), kind) or (kind is int and isinstance(document[field], bool))
    ]
    if wrong:
        raise Refused(422, f"{name}: missing or of the wrong type: {', '.join(wrong)}")
    return document
