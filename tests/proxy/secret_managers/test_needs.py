"""Who needs what, and that nothing is kept for nobody."""

from aisix_proxy.secret_managers.needs import Needs

A, B = ("provider_keys", "a"), ("api_keys", "b")


def test_references_live_as_long_as_somebody_needs_them() -> None:
    forgotten: list[str] = []
    needs = Needs(forgotten.append)
    needs.put(A, frozenset({"x", "y"}))
    needs.put(B, frozenset({"y"}))
    assert (sorted(needs.users(["y"])), needs.users(["x"]), needs.users(["z"])) == ([B, A], [A], [])
    needs.put(A, frozenset({"z"}))
    assert forgotten == ["x"]
    assert needs.users(["y"]) == [B]
    assert needs.any_of({"api_keys": {"a", "b"}})
    assert not needs.any_of({"api_keys": {"a"}, "models": {"b"}})
    needs.keep(frozenset({A}))
    assert forgotten == ["x", "y"]
    assert (list(needs), len(needs)) == ([A], 1)
    needs.keep(frozenset())
    assert (forgotten, len(needs)) == (["x", "y", "z"], 0)
