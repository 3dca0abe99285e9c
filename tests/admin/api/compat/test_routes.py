"""The routes of the older dialect."""

from aisix_admin.api.compat.routes import COMPAT_CALLS


def test_both_collections_have_their_five_calls() -> None:
    assert [(method, path) for method, path, _ in COMPAT_CALLS] == [
        (method, f"/aisix/admin/{name}{more}")
        for name in ("models", "apikeys")
        for method, more in (("GET", ""), ("POST", ""), ("GET", "/{id}"), ("PUT", "/{id}"), ("DELETE", "/{id}"))
    ]
