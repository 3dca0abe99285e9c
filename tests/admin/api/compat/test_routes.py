"""The routes of the other dialects."""

from aisix_admin.api.compat.routes import COMPAT_ROUTES


def test_every_collection_has_its_calls() -> None:
    assert [(route.method, route.path) for route in COMPAT_ROUTES if "/aisix/" in route.path] == [
        (method, f"/aisix/admin/{name}{more}")
        for name in ("models", "apikeys")
        for method, more in (("GET", ""), ("POST", ""), ("GET", "/{id}"), ("PUT", "/{id}"), ("DELETE", "/{id}"))
    ]
    assert [(route.method, route.path) for route in COMPAT_ROUTES if "/apisix/" in route.path] == [
        (method, f"/apisix/admin/{name}{more}")
        for name in ("secret_providers", "secrets")
        for method, more in (
            ("GET", ""),
            *((method, "/{manager}/{id}") for method in ("GET", "PUT", "PATCH", "DELETE")),
            ("POST", "/{manager}/{id}/test"),
        )
    ]
    assert all(route.bare and route.admin and route.writes == (route.method != "GET") for route in COMPAT_ROUTES)
