"""Usage events, journals and streams for the tests of this folder."""

import json
from pathlib import Path
from typing import Any

import msgspec

from aisix_common.logs import get_logger
from aisix_common.metrics import Metrics
from aisix_proxy.managed.usage_journal import UsageJournal
from aisix_proxy.managed.usage_metrics import UsageMetrics
from aisix_proxy.telemetry.usage_event import UsageEvent

AT = "2026-11-20T12:00:00Z"


def usage_event(number: int, **fields: Any) -> UsageEvent:
    told: dict[str, Any] = {
        "request_id": f"request-{number}",
        "occurred_at": AT,
        "model_id": "m",
        "api_key_id": "k",
        "prompt_tokens": number,
        "completion_tokens": 1,
        "upstream_latency_ms": 1,
        "status_code": 200,
        "cost_usd": 0.0,
        "guardrail_blocked": False,
        "attempt_index": 0,
    }
    return UsageEvent(**(told | fields))


def line(number: int, **fields: Any) -> bytes:
    return msgspec.json.encode(usage_event(number, **fields))


def numbers(events: list[bytes] | tuple[bytes, ...]) -> list[int]:
    return [json.loads(event)["prompt_tokens"] for event in events]


class Counted:
    """Metrics, and what they say."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.usage = UsageMetrics(self.metrics)

    def value(self, name: str, *labels: str) -> float:
        for family in self.metrics.collect():
            if family.name == name:
                return sum(sample.value for sample in family.samples if not labels or sample.labels == labels)
        raise AssertionError(f"there is no {name}")

    def dropped(self) -> dict[str, float]:
        (family,) = (f for f in self.metrics.collect() if f.name == "aisix_usage_event_drops_total")
        return {sample.labels[0]: sample.value for sample in family.samples if sample.value}


def journal_in(folder: Path, counted: Counted | None = None, **more: Any) -> UsageJournal:
    return UsageJournal(folder, (counted or Counted()).usage, get_logger("usage"), **more)


def fill(journal: UsageJournal, count: int, start: int = 0, **fields: Any) -> None:
    for number in range(start, start + count):
        journal.record(usage_event(number, **fields))
