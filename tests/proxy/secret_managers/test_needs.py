"""Who needs what, and that nothing is kept for nobody."""

from aisix_proxy.secret_managers.needs import Needs, Row

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
    asked: list[Row] = []

    def only_a(kind: str, id: str) -> bool:
        asked.append((kind, id))
        return (kind, id) == A

    needs.keep(only_a, {"provider_keys": frozenset({"a", "other"}), "models": frozenset({"b"})})
    assert asked == [A]
    assert (forgotten, len(needs)) == (["x"], 2)
    needs.keep(only_a, {"api_keys": frozenset({"b"})})
    assert forgotten == ["x", "y"]
    assert (list(needs), len(needs)) == ([A], 1)
    needs.keep(lambda kind, id: False, None)
    assert (forgotten, len(needs)) == (["x", "y", "z"], 0)
