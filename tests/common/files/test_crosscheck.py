"""Rules between entries that are sound by themselves."""

from typing import Any

import pytest

from aisix_common.files.crosscheck import Row, crosscheck
from aisix_common.files.layout import row_id
from aisix_common.resources import BY_NAME, check


def row(kind: str, index: int, document: dict[str, Any]) -> Row:
    name = document.get("display_name") or document.get("name") or kind
    return Row(BY_NAME[kind], index, name, row_id(kind, name), check(BY_NAME[kind], document))


def problems(*rows: Row) -> list[str]:
    names: dict[str, set[str]] = {}
    for each in rows:
        names.setdefault(each.kind.name, set()).add(each.identity)
    ids = {kind: {row_id(kind, name) for name in known} for kind, known in names.items()}
    return [str(problem) for problem in crosscheck(rows, names, ids)]


def key(index: int, **more: Any) -> Row:
    return row("api_keys", index, {"display_name": f"k{index}", "key_hash": f"h{index}", "allowed_models": [], **more})


def issuer(index: int, **more: Any) -> Row:
    document = {"name": f"i{index}", "issuer": "https://i", "audiences": ["a"], **more}
    return row("oidc_providers", index, document)


def test_caller_keys() -> None:
    assert problems(key(0), key(1)) == []
    (hashes,) = problems(key(0, key_hash="secret-hash"), key(1, key_hash="secret-hash"))
    assert hashes == 'api_keys[1] ("k1"): field `key_hash`: is a key that api_keys[0] has already'
    jwt = {"jwt_subject": "s", "jwt_provider": "p"}
    assert problems(key(0, **jwt), key(1, **{**jwt, "jwt_provider": "q"})) == []
    (subjects,) = problems(key(0, **jwt), key(1, **jwt))
    assert subjects.startswith('api_keys[1] ("k1"): field `jwt_subject`: ')
    assert problems(key(0, jwt_subject="s")) == [
        'api_keys[0] ("k0"): field `jwt_subject`: needs `jwt_provider` beside it'
    ]


def test_what_a_caller_key_may_name_before_it_is_there() -> None:
    assert problems(key(0, allowed_models=["a*"], allowed_routes=["*"], allowed_agents=["nobody"])) == []
    assert len(problems(key(0, allowed_models=["a"], allowed_routes=["b"]))) == 2


def test_enabled_issuers_are_unique() -> None:
    assert problems(issuer(0), issuer(1, enabled=False)) == []
    (only,) = problems(issuer(0), issuer(1))
    assert (
        only == 'oidc_providers[1] ("i1"): field `issuer`: is an issuer that the enabled oidc_providers[0] has already'
    )


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("https://i/a?x=1", True),
        ("https://me@i", False),
        ("https://me:sk@i", False),
        ("https://i?Access_Token=1", False),
        ("https://i?a=b&apikey", False),
        ("https://[", True),
    ],
)
def test_urls_carry_no_credentials(url: str, fine: bool) -> None:
    assert (problems(issuer(0, issuer=url)) == []) == fine
    assert (problems(issuer(0, jwks_uri=url)) == []) == fine
    assert (problems(row("mcp_auth_settings", 0, {"resource_url": url})) == []) == fine


def test_claim_mappings_name_what_is_there() -> None:
    mapping = {
        "name": "m",
        "jwt_provider": "i0",
        "match": [{"claim": "a", "op": "exact", "values": ["b"]}],
        "resolve": {"api_key_id": row_id("api_keys", "k0")},
    }
    assert problems(row("claim_mappings", 0, mapping), key(0), issuer(0)) == []
    assert problems(row("claim_mappings", 0, mapping)) == [
        'claim_mappings[0] ("m"): field `jwt_provider`: names an oidc provider that is not in this file',
        'claim_mappings[0] ("m"): field `resolve.api_key_id`: names an API key that is not in this file',
    ]


def test_cache_policies_may_name_anything() -> None:
    assert problems(row("cache_policies", 0, {"name": "a", "applies_to": "model:gone"})) == []
