"""The routes of the older dialect."""

from aisix_admin.api.compat.routes import COMPAT_ROUTES


def test_both_collections_have_their_five_calls() -> None:
    assert [(route.method, route.path) for route in COMPAT_ROUTES] == [
        (method, f"/aisix/admin/{name}{more}")
        for name in ("models", "apikeys")
        for method, more in (("GET", ""), ("POST", ""), ("GET", "/{id}"), ("PUT", "/{id}"), ("DELETE", "/{id}"))
    ]
    assert all(route.admin and route.writes == (route.method != "GET") for route in COMPAT_ROUTES)
