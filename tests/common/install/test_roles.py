"""The roles as data; what they let through is tested on a real etcd in tests/deploy/test_etcd_roles.py."""

import pytest

from aisix_common.install.roles import SERVICES, Grant, roles
from aisix_common.settings.storage import Etcd


@pytest.mark.parametrize(("managed", "services"), [(False, {"proxy", "admin"}), (True, {"proxy", "cloud-agent"})])
@pytest.mark.parametrize("etcd", [Etcd(), Etcd(prefix="/a", env_id="e1")], ids=["defaults", "an environment"])
def test_nothing_is_granted_outside_the_roots(managed: bool, services: set[str], etcd: Etcd) -> None:
    granted = roles(etcd, managed=managed)
    assert set(granted) == services <= set(SERVICES)
    for grants in granted.values():
        assert len({(grant.key, grant.range_end) for grant in grants}) == len(grants)
        for grant in grants:
            assert grant.key.startswith((f"{etcd.resource_root}/", f"{etcd.ext_root}/", f"{etcd.run_root}/"))
            assert grant.key not in ("", "/", f"{etcd.run_root}/"), "nobody has all of the run root"


def test_the_end_of_a_range() -> None:
    assert Grant("READ", "/aisix/").range_end == "/aisix0"
    assert Grant("READ", "/aisix/x", prefix=False).range_end == ""
