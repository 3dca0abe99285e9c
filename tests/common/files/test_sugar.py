"""Names in place of ids, kind by kind; and the way back, which gives the names again."""

from typing import Any

import pytest

from aisix_common.files.interpolation import BadText
from aisix_common.files.layout import row_id
from aisix_common.files.sugar import Dangling, Names, desugared
from aisix_common.files.unsugar import Identities, unsugared

NAMES = Names({"provider_keys": {"p"}, "models": {"m"}, "api_keys": {"k"}}, {})
BACK = {kind: {row_id(kind, name): name for name in names} for kind, names in NAMES.by_kind.items()}
P, M, K = row_id("provider_keys", "p"), row_id("models", "m"), row_id("api_keys", "k")


def leaf(dimension: str, value: Any) -> dict[str, Any]:
    return {"dimension": dimension, "operator": "==", "value": value}


@pytest.mark.parametrize(
    ("kind", "said", "meant"),
    [
        ("models", {"a": 1, "provider_key": "p", "b": 2}, {"a": 1, "provider_key_id": P, "b": 2}),
        (
            "passthrough_routes",
            {"provider_key": "p", "anonymous_key": "k"},
            {"provider_key_id": P, "anonymous_key_id": K},
        ),
        ("claim_mappings", {"resolve": {"api_key": "k"}}, {"resolve": {"api_key_id": K}}),
        ("rate_limit_policies", {"scope": "model", "scope_ref": "m"}, {"scope": "model", "scope_ref": M}),
        ("rate_limit_policies", {"scope": "api_key", "scope_ref": "k"}, {"scope": "api_key", "scope_ref": K}),
        ("rate_limit_policies", {"scope": "team", "scope_ref": "m"}, {"scope": "team", "scope_ref": "m"}),
        (
            "rate_limit_policies",
            {"conditions": [leaf("model", "m"), {"logic": "or", "children": [leaf("api_key", ["k", "k"])]}]},
            {"conditions": [leaf("model", M), {"logic": "or", "children": [leaf("api_key", [K, K])]}]},
        ),
        (
            "rate_limit_policies",
            {"conditions": [leaf("model_name", "m"), leaf("team", "k")]},
            {"conditions": [leaf("model_name", "m"), leaf("team", "k")]},
        ),
        ("guardrails", {"name": "p"}, {"name": "p"}),
    ],
)
def test_there_and_back(kind: str, said: dict[str, Any], meant: dict[str, Any]) -> None:
    document = desugared(kind, said, NAMES)
    assert document == meant
    assert list(document) == list(meant)
    identities = Identities(BACK)
    assert unsugared(kind, meant, identities) == said
    assert identities.dangling == []


@pytest.mark.parametrize(
    ("kind", "said", "at"),
    [
        ("models", {"provider_key": "gone"}, ("provider_key",)),
        ("claim_mappings", {"resolve": {"api_key": "gone"}}, ("resolve", "api_key")),
        ("rate_limit_policies", {"scope": "model", "scope_ref": "gone"}, ("scope_ref",)),
        (
            "rate_limit_policies",
            {"conditions": [{"children": [leaf("api_key", ["k", "gone"])]}]},
            ("conditions", 0, "children", 0, "value", 1),
        ),
    ],
)
def test_names_of_nothing(kind: str, said: dict[str, Any], at: tuple[Any, ...]) -> None:
    with pytest.raises(Dangling) as refused:
        desugared(kind, said, NAMES)
    assert refused.value.at == at
    assert "gone" not in refused.value.reason


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("models", {"provider_key": "p", "provider_key_id": P}),
        ("models", {"provider_key": None}),
        ("passthrough_routes", {"anonymous_key": ""}),
        ("claim_mappings", {"resolve": {"api_key": "k", "api_key_id": K}}),
    ],
)
def test_what_cannot_be_meant(kind: str, said: dict[str, Any]) -> None:
    with pytest.raises(BadText):
        desugared(kind, said, NAMES)


@pytest.mark.parametrize(
    "said", [{"resolve": 3}, {"conditions": 3}, {"conditions": [3, {"children": 3}]}, {"scope": 3}]
)
def test_any_shape_is_left_to_the_strict_check(said: dict[str, Any]) -> None:
    for kind in ("claim_mappings", "rate_limit_policies"):
        assert desugared(kind, said, NAMES) == said
