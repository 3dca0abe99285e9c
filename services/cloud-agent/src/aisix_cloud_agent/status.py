"""What an agent tells of itself beside its metrics: `/status/cloud`, and the probes of Kubernetes.

Unauthenticated, as all pages of a metrics listener: no secret is among what the parts tell of themselves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from aisix_common.clock import rfc3339
from aisix_common.metrics import Metrics
from aisix_common.service import Lifecycle, Page

from .lead.leading import Leadership

_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class StatusPages:
    """The pages. `parts` give, by name, what is known of each: dataclasses, dicts, lists, texts, numbers, times."""

    parts: Mapping[str, Callable[[], object]]
    leadership: Leadership
    lifecycle: Lifecycle
    linked: Callable[[], bool]
    """Whether there is a certificate for the Cloud."""

    def pages(self) -> dict[str, Page]:
        """By path."""
        return {"/status/cloud": self.cloud, "/livez": self.live, "/readyz": self.ready}

    async def cloud(self) -> tuple[int, str, bytes]:
        """Everything."""
        leadership = self.leadership
        document = {
            "leading": leadership.leading,
            "leading_since": rfc3339(leadership.since) if leadership.leading and leadership.since else None,
            "epoch": leadership.epoch,
            **{name: part() for name, part in self.parts.items()},
        }
        return 200, _JSON, msgspec.json.encode(document)

    async def live(self) -> tuple[int, str, bytes]:
        """200 as long as this answers: nothing that the Cloud or etcd does is cured by a restart."""
        return 200, _TEXT, b"ok"

    async def ready(self) -> tuple[int, str, bytes]:
        """Whether it can do its work, or could if it led."""
        if self.lifecycle.draining:
            return 503, _TEXT, b"draining"
        if not self.linked():
            return 503, _TEXT, b"no certificate for the Cloud yet"
        return 200, _TEXT, b"ok"


def lead_metrics(metrics: Metrics, leadership: Leadership) -> None:
    """Register what is counted of the lead."""
    leads = metrics.gauge("aisix_cloud_leading", "Whether this agent leads: 1, or 0 where it follows.").cell()
    changes = metrics.counter(
        "aisix_cloud_lead_changes_total", "How often this agent began to lead or ended it."
    ).cell()

    def refresh() -> None:
        leads.set(int(leadership.leading))
        changes.value = leadership.changes

    metrics.before_collect(refresh)
