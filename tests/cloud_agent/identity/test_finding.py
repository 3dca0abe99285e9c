"""Which bundle is to be in force: a table of what is stored and what is given."""

from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from aisix_cloud_agent.identity.bundle import Bundle
from aisix_cloud_agent.identity.bundle_store import DirectoryStore
from aisix_cloud_agent.identity.certificate_status import CertificateStatus
from aisix_cloud_agent.identity.finding import Finder
from aisix_cloud_agent.identity.identity import identify
from aisix_common.metrics import Metrics
from aisix_common.settings.control import Managed

from tests.cloud_agent.issuing import NOW, OTHER_ENV, authority, bundle, cloud
from tests.cloud_agent.keeping import logger

OLD, MID, NEW = (bundle(days=(days, 60)) for days in (-30, -20, -10))
FOREIGN = bundle((f"x-aisix://env/{OTHER_ENV}", "x-aisix://dp/dp-7"), days=(-5, 60))
OTHER_CA = replace(MID, ca=cloud().pem + authority("Next CA").pem)


class Still:
    def now(self):  # type: ignore[no-untyped-def]
        return NOW


@pytest.mark.parametrize(
    ("stored", "given", "in_force", "leads", "best", "kept"),
    [
        (None, None, None, True, None, None),
        (MID, None, None, True, MID, MID),
        (None, MID, None, True, MID, MID),
        (None, MID, None, False, MID, None),
        (MID, NEW, MID, True, NEW, NEW),
        (MID, NEW, MID, False, NEW, MID),
        (MID, OLD, MID, True, MID, MID),
        (MID, OTHER_CA, MID, True, OTHER_CA, OTHER_CA),
        (MID, FOREIGN, MID, True, MID, MID),
        (MID, FOREIGN, None, True, MID, MID),
        (MID, FOREIGN, None, False, MID, MID),
        (MID, replace(NEW, key=MID.key), None, True, MID, MID),
        (OLD, None, MID, True, None, OLD),
        (None, OLD, MID, True, None, None),
    ],
)
async def test_the_best_bundle(
    tmp_path: Path,
    stored: Bundle | None,
    given: Bundle | None,
    in_force: Bundle | None,
    leads: bool,
    best: Bundle | None,
    kept: Bundle | None,
) -> None:
    store = DirectoryStore(tmp_path / "mtls", tmp_path / "dp_id")
    if stored is not None:
        store.save(stored, NOW, None)
    managed = Managed()
    if given is not None:
        managed = Managed(cp_cert_pem=given.certificate, cp_key_pem=given.key, cp_ca_pem=given.ca)
    status = CertificateStatus(Still(), logger(structlog.testing.LogCapture()), Metrics())
    ours = identify(in_force.certificate, in_force.key, in_force.ca, NOW) if in_force is not None else None
    found = await Finder(managed, store, Still(), status).best(ours, lambda: leads)
    assert (found.bundle if found is not None else None) == best
    left = store.load(NOW)
    assert (left.bundle if left is not None else None) == kept
