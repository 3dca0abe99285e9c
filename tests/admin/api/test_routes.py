"""The routes as values."""

from aisix_admin.api.routes import ALIASED, ROUTES
from aisix_common.resources import KINDS


def test_every_kind_has_its_five() -> None:
    there = {(route.method, route.path) for route in ROUTES}
    for kind in KINDS:
        path = f"/admin/v1/{kind.name}"
        assert {("GET", path), ("POST", path), ("GET", path + "/{id}"), ("PUT", path + "/{id}")} < there
        assert ("DELETE", path + "/{id}") in there


def test_only_the_probes_take_no_key() -> None:
    assert {route.path for route in ROUTES if not route.admin} == {"/livez", "/readyz"}
    assert all(route.admin for route in ALIASED)
    assert len(ALIASED) == 5 and all(route.path.startswith("/admin/v1/apikeys") for route in ALIASED)
