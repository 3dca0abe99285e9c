"""The lead and its fence."""

import pytest

from aisix_cloud_agent.lead.lead import Lead, LeadLost
from aisix_common.store.types import unchanged


def test_a_lead_fences_by_its_epoch_and_is_required_to_hold() -> None:
    held = [True]
    lead = Lead(7, lambda: held[0])
    assert lead.fence("/run/aisix") == unchanged("/run/aisix/agent/epoch", 7)
    lead.require()
    held[0] = False
    with pytest.raises(LeadLost):
        lead.require()
