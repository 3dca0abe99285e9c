"""What a write means for other rows: what is claimed, freed and asked. Without etcd."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from aisix_admin.errors import TooLarge
from aisix_admin.facts import NOTHING
from aisix_admin.history import History, Version, appended
from aisix_admin.index import Place
from aisix_admin.planning import Edit, View, require_few
from aisix_common.resources import API_KEYS, BY_NAME, MODELS, PROVIDER_KEYS, SECRET_PROVIDERS, Kind
from aisix_common.store.types import KeyValue, Put, unchanged

from tests.support.planned import DIRECT, HASH, PROVIDER, TURN, Stored, edit, planned, planner, router

# what a write is


@pytest.mark.parametrize(
    ("kind", "before", "after", "structural"),
    [
        (MODELS, None, DIRECT, True),
        (MODELS, DIRECT, None, True),
        (MODELS, DIRECT, DIRECT, False),
        (MODELS, DIRECT, {**DIRECT, "timeout": 5}, False),
        (MODELS, DIRECT, {**DIRECT, "display_name": "other"}, True),
        (MODELS, DIRECT, {**DIRECT, "provider_key_id": "other"}, True),
        (MODELS, router("r", "a", "b"), router("r", "a"), True),
        (MODELS, b"not json", DIRECT, True),
        (PROVIDER_KEYS, PROVIDER, {**PROVIDER, "api_key": "other"}, False),
        (API_KEYS, {"key_hash": HASH, "allowed_models": []}, {"key_hash": HASH, "allowed_models": ["x"]}, False),
        (API_KEYS, {"key_hash": HASH, "allowed_models": []}, {"key_hash": "b" * 64, "allowed_models": []}, True),
    ],
)
def test_what_is_structural_takes_its_turn(kind: Kind[Any], before: Any, after: Any, structural: bool) -> None:
    edits = [edit(kind, "1", after)]
    plan = planned(edits, {} if before is None else {(kind, "1"): before})
    assert planner(edits, {} if before is None else {(kind, "1"): before}).structural is structural
    assert plan.structural is structural
    assert (unchanged(TURN, 30) in plan.compare) is structural
    assert (Put(TURN, b"8-token.0") in plan.operations) is structural


def test_one_of_many_makes_the_set_structural() -> None:
    stored: Stored = {(MODELS, "1"): DIRECT}
    assert planner([edit(MODELS, "1", DIRECT), edit(PROVIDER_KEYS, "2", PROVIDER)], stored).structural


# names


def test_new_names_are_claimed_and_others_may_hold_them() -> None:
    stored: Stored = {(MODELS, "1"): DIRECT, (MODELS, "2"): router("taken", "x"), (PROVIDER_KEYS, "3"): PROVIDER}
    renamed = edit(MODELS, "1", {**DIRECT, "display_name": "taken"})
    plan = planner([renamed], stored)
    assert list(plan.claims()) == [(renamed, "taken")]
    assert list(plan.rivals()) == [(renamed, "taken", "2")]
    assert planned([renamed], stored).claims == {("models", "taken"): "1"}
    assert list(planner([edit(MODELS, "1", DIRECT)], stored).claims()) == []
    assert list(planner([edit(MODELS, "4", {**DIRECT, "display_name": "p"})], stored).rivals()) == [], "another kind"


def test_names_may_change_hands_within_a_write() -> None:
    stored: Stored = {(MODELS, "1"): router("a", "x"), (MODELS, "2"): router("b", "x")}
    swap = planner([edit(MODELS, "1", router("b", "x")), edit(MODELS, "2", router("a", "x"))], stored)
    assert not list(swap.rivals()) and not list(swap.doubled())
    passed_on = planner([edit(MODELS, "1", None), edit(MODELS, "3", router("a", "x"))], stored)
    assert not list(passed_on.rivals()) and not list(passed_on.doubled())


def test_two_of_a_write_cannot_have_one_name() -> None:
    one, two = edit(MODELS, "1", router("a", "x")), edit(MODELS, "2", router("a", "x"))
    assert list(planner([one, two], {}).doubled()) == [(one, "a"), (two, "a")]
    assert list(planner([one, two], {(MODELS, "1"): router("a", "y")}).doubled()) == [(two, "a")]
    other = edit(PROVIDER_KEYS, "3", {**PROVIDER, "display_name": "a"})
    assert list(planner([one, other], {}).doubled()) == []


def test_kinds_without_names_claim_nothing() -> None:
    policy = edit(BY_NAME["mcp_policies"], "1", {"scope": "env", "allow": ["*"]})
    assert list(planner([policy], {}).claims()) == []
    settings = edit(BY_NAME["mcp_auth_settings"], "1", {})
    assert [name for _, name in planner([settings], {}).claims()] == ["mcp_auth_settings"], "there is to be one"


# references


def asked(edits: Sequence[Edit], stored: Stored) -> list[tuple[tuple[str, str, str], tuple[str | int, ...]]]:
    return [(each.pointed, each.at) for each in planner(edits, stored).questions()]


def test_new_references_are_asked_for() -> None:
    assert asked([edit(MODELS, "1", DIRECT)], {}) == [(("provider_keys", "id", "pk"), ("provider_key_id",))]
    assert asked([edit(MODELS, "1", DIRECT)], {(MODELS, "1"): DIRECT}) == [], "it was there before"
    assert asked([edit(MODELS, "1", router("r", "a", "b"))], {(MODELS, "1"): router("r", "a")}) == [
        (("models", "name", "b"), ("routing", "targets", 1, "model"))
    ]
    assert asked([edit(API_KEYS, "1", {"key_hash": HASH, "allowed_models": ["x"]})], {}) == [], "a soft one"
    assert asked([edit(MODELS, "1", None)], {(MODELS, "1"): DIRECT}) == []


def test_what_the_same_write_brings_is_not_asked_for() -> None:
    assert asked([edit(MODELS, "1", DIRECT), edit(PROVIDER_KEYS, "pk", PROVIDER)], {}) == []
    assert asked([edit(MODELS, "1", router("r", "gpt")), edit(MODELS, "2", DIRECT)], {(PROVIDER_KEYS, "pk"): {}}) == [
        (("provider_keys", "id", "pk"), ("provider_key_id",))
    ]
    gone = [edit(MODELS, "1", DIRECT), edit(PROVIDER_KEYS, "pk", None)]
    assert asked(gone, {(PROVIDER_KEYS, "pk"): PROVIDER}) == [(("provider_keys", "id", "pk"), ("provider_key_id",))]


def test_what_stands_is_outside_of_the_write() -> None:
    stored: Stored = {(PROVIDER_KEYS, "pk"): PROVIDER, (MODELS, "2"): router("x", "y")}
    plan = planner([edit(MODELS, "1", DIRECT)], stored)
    assert plan.stands(("provider_keys", "id", "pk")) == ["pk"]
    assert plan.stands(("provider_keys", "id", "other")) == []
    assert plan.stands(("models", "name", "x")) == ["2"]
    assert plan.stands(("models", "name", "y")) == []
    assert planner([edit(PROVIDER_KEYS, "pk", None)], stored).stands(("provider_keys", "id", "pk")) == []
    assert planner([edit(MODELS, "2", None)], stored).stands(("models", "name", "x")) == []


# what others use


def freed(edits: Sequence[Edit], stored: Stored) -> list[tuple[str, list[Place]]]:
    return [(each.id, users) for each, users in planner(edits, stored).freed()]


USED: Stored = {
    (PROVIDER_KEYS, "pk"): PROVIDER,
    (MODELS, "1"): DIRECT,
    (MODELS, "2"): router("r", "gpt"),
    (MODELS, "3"): router("self", "self"),
}


def test_users_of_what_goes_away() -> None:
    assert freed([edit(PROVIDER_KEYS, "pk", None)], USED) == [("pk", [("models", "1")])]
    assert freed([edit(MODELS, "1", None)], USED) == [("1", [("models", "2")])]
    assert freed([edit(MODELS, "1", {**DIRECT, "display_name": "other"})], USED) == [("1", [("models", "2")])]
    assert freed([edit(MODELS, "2", None)], USED) == []
    assert freed([edit(MODELS, "3", None)], USED) == [], "it was its own user"
    assert freed([edit(PROVIDER_KEYS, "pk", {**PROVIDER, "display_name": "other"})], USED) == [], "used by its id"
    assert freed([edit(MODELS, "9", DIRECT)], USED) == []


def test_a_write_may_take_the_users_along() -> None:
    assert freed([edit(PROVIDER_KEYS, "pk", None), edit(MODELS, "1", None), edit(MODELS, "2", None)], USED) == []
    assert freed([edit(MODELS, "1", None), edit(MODELS, "2", router("r", "self"))], USED) == []
    assert freed([edit(MODELS, "1", None), edit(MODELS, "2", router("r", "gpt", "self"))], USED) == [
        ("1", [("models", "2")])
    ]
    assert freed([edit(MODELS, "1", None), edit(MODELS, "9", DIRECT)], USED) == [], "the name comes back"


def test_a_name_that_a_second_row_has_is_not_freed() -> None:
    doubled: Stored = {**USED, (MODELS, "8"): DIRECT}
    assert freed([edit(MODELS, "1", None)], doubled) == []
    assert freed([edit(MODELS, "1", None), edit(MODELS, "8", None)], doubled) == [
        ("1", [("models", "2")]),
        ("8", [("models", "2")]),
    ]


# limits


def test_only_so_many_resources_at_once() -> None:
    require_few(49)
    with pytest.raises(TooLarge, match=r"needs 102 operations of etcd.*100 are possible: send at most 49"):
        require_few(50)


# the view


def test_the_view_knows_its_targets_only() -> None:
    row = KeyValue("/aisix/models/1", b"{}", 3, 7)
    past = KeyValue("/run/aisix/history/models/1", appended(History(), Version(0, "", "", "x"), 9), 3, 7)
    view = View({("models", "1"): row, ("models", "2"): None}, {("models", "1"): past, ("models", "2"): None})
    found = view.row("models", "1")
    assert found is not None and (found.id, found.revision) == ("1", 7)
    last = view.history("models", "1").last
    assert last is not None and last.revision == 7
    assert view.row("models", "2") is None and view.history("models", "2") == History()
    with pytest.raises(KeyError):
        view.row("models", "3")


def test_the_facts_of_a_deletion_are_none() -> None:
    assert edit(MODELS, "1", None).facts == NOTHING
    assert msgspec.structs.asdict(edit(MODELS, "1", DIRECT).facts)["name"] == "gpt"


# secret providers


KEYED = {**PROVIDER, "api_key": "$secret://vault/main/kv/team/key"}
CALLER = {"key_hash": "$secret://vault/main/kv/callers/one", "allowed_models": []}
VAULT = {"manager": "vault", "name": "main", "uri": "https://vault.example", "auth": {"method": "token", "token": "t"}}
MAIN = ("secret_providers", "name", "vault/main")


@pytest.mark.parametrize(
    ("kind", "sent", "at"),
    [
        (PROVIDER_KEYS, KEYED, ("api_key",)),
        (API_KEYS, CALLER, ("key_hash",)),
        (
            PROVIDER_KEYS,
            {**PROVIDER, "request": {"default_headers": {"x": "$SECRET://vault/main/kv/x"}}},
            ("request", "default_headers", "x"),
        ),
    ],
)
def test_the_provider_of_a_reference_must_be_there(kind: Kind[Any], sent: dict[str, Any], at: tuple[str, ...]) -> None:
    new = edit(kind, "1", sent)
    assert asked([new], {}) == [(MAIN, at)]
    assert asked([new], {(kind, "1"): sent}) == [], "it was there before"
    assert asked([new, edit(SECRET_PROVIDERS, "v", VAULT)], {}) == [], "it comes along"
    assert list(planner([new], {}, given={MAIN}).questions()) == [], "it is of config.yaml"
    assert planner([new], {(SECRET_PROVIDERS, "v"): VAULT}).stands(MAIN) == ["v"]


@pytest.mark.parametrize("text", ["$env://AISIX_SECRET_X", "$secret://fax/main/x", "$secret://vault", "sk-plain"])
def test_what_leads_to_no_manager_points_nowhere(text: str) -> None:
    assert asked([edit(PROVIDER_KEYS, "1", {**PROVIDER, "api_key": text})], {}) == []


def test_a_provider_in_use_is_not_freed_unnoticed() -> None:
    stored: Stored = {(SECRET_PROVIDERS, "v"): VAULT, (PROVIDER_KEYS, "1"): KEYED, (API_KEYS, "2"): CALLER}
    users = [("api_keys", "2"), ("provider_keys", "1")]
    gone, renamed = edit(SECRET_PROVIDERS, "v", None), edit(SECRET_PROVIDERS, "v", {**VAULT, "name": "other"})
    assert freed([gone], stored) == freed([renamed], stored) == [("v", users)]
    assert freed([edit(SECRET_PROVIDERS, "v", {**VAULT, "kv_version": "v1"})], stored) == []
    assert freed([gone, edit(PROVIDER_KEYS, "1", PROVIDER), edit(API_KEYS, "2", None)], stored) == []
    assert list(planner([gone], stored, given={MAIN}).freed()) == [], "config.yaml has it, too"
    assert planner([edit(PROVIDER_KEYS, "1", PROVIDER)], stored).structural, "a reference goes"
