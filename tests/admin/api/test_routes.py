"""The routes as values."""

from aisix_admin.api.compat.routes import COMPAT_ROUTES
from aisix_admin.api.routes import ALIASED, ROUTES
from aisix_common.resources import ALL_KINDS


def test_every_kind_has_its_own() -> None:
    there = {(route.method, route.path) for route in ROUTES}
    for kind in ALL_KINDS:
        path = f"/admin/v1/{kind.name}"
        assert {("GET", path), ("POST", path), ("GET", path + "/{id}"), ("PUT", path + "/{id}")} < there
        assert {("DELETE", path + "/{id}"), ("PATCH", path + "/{id}"), ("GET", path + "/{id}/history")} < there


def test_whatever_is_no_get_is_for_admins_but_for_the_playground() -> None:
    harmless = {"/playground/chat/completions"}
    assert {route.path for route in (*ROUTES, *COMPAT_ROUTES) if route.method != "GET" and not route.writes} == harmless
    assert not [route for route in ROUTES if route.method == "GET" and route.writes]


def test_only_the_probes_and_the_playground_take_no_key() -> None:
    assert {route.path for route in ROUTES if not route.admin} == {
        "/livez",
        "/readyz",
        "/playground/chat/completions",
    }
    assert all(route.admin for route in (*ALIASED, *COMPAT_ROUTES))
    assert len(ALIASED) == 11 and all(route.path.startswith("/admin/v1/apikeys") for route in ALIASED)
