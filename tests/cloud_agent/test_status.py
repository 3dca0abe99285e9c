"""`/status/cloud` and the probes."""

from datetime import UTC, datetime

import pytest
from msgspec import json

from aisix_cloud_agent.lead.leading import Leadership
from aisix_cloud_agent.status import StatusPages, lead_metrics
from aisix_common.metrics import Metrics
from aisix_common.service import Lifecycle

from tests.support.builders import Clock

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def pages(*, linked: bool = True) -> StatusPages:
    return StatusPages({"usage": lambda: {"backlog": 3}}, Leadership("me", Clock(AT)), Lifecycle(), lambda: linked)


async def test_the_page_tells_of_the_lead_and_of_every_part() -> None:
    shown = pages()
    _, _, body = await shown.cloud()
    assert json.decode(body) == {"leading": False, "leading_since": None, "epoch": 0, "usage": {"backlog": 3}}
    shown.leadership.won(7)
    _, _, body = await shown.cloud()
    assert json.decode(body)["leading_since"] == "2026-01-02T03:04:05Z"
    assert (json.decode(body)["leading"], json.decode(body)["epoch"]) == (True, 7)
    assert set(shown.pages()) == {"/status/cloud", "/livez", "/readyz"}


@pytest.mark.parametrize(("linked", "draining", "status"), [(True, False, 200), (False, False, 503), (True, True, 503)])
async def test_ready_is_who_has_a_certificate_and_does_not_go(linked: bool, draining: bool, status: int) -> None:
    shown = pages(linked=linked)
    shown.lifecycle.draining = draining
    assert (await shown.ready())[0] == status
    assert (await shown.live())[0] == 200


def test_the_lead_is_counted() -> None:
    metrics, leadership = Metrics(), Leadership("me")
    lead_metrics(metrics, leadership)
    leadership.won(1)
    leadership.lost()
    leadership.won(2)
    numbers = {family.name: [sample.value for sample in family.samples] for family in metrics.collect()}
    assert numbers["aisix_cloud_leading"] == [1]
    assert [numbers[name] for name in numbers if name.startswith("aisix_cloud_lead_changes")] == [[3]]
