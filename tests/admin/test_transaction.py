"""From edits to one transaction: what is compared, written and told. Without etcd."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from aisix_admin.audit import read_entry
from aisix_admin.errors import TooLarge
from aisix_admin.facts import Facts
from aisix_admin.history import BYTES_OF_ONE, FOUND, History, Version, appended, read_history
from aisix_admin.planning import Edit
from aisix_admin.transaction import VALUE_LIMIT, Shared, Wish
from aisix_common.resources import API_KEYS, MODELS, PROVIDER_KEYS, check
from aisix_common.store.types import Compare, Compared, Comparison, Delete, Put, unchanged

from tests.support.planned import (
    AUDIT,
    DIRECT,
    HASH,
    NOW,
    PROVIDER,
    ROOTS,
    SHARED,
    TRANSACTIONS,
    TURN,
    TURN_EXT,
    WISH,
    Stored,
    applied,
    edit,
    planned,
    planner,
    put,
    raw,
    router,
)


def test_a_new_row() -> None:
    plan = planned([edit(MODELS, "1", DIRECT, "created")], {}, exist=["/aisix/provider_keys/pk"] * 2)
    assert plan.compare == [
        unchanged("/aisix/models/1", 0),
        unchanged("/run/aisix/history/models/1", 0),
        unchanged(AUDIT, 0),
        unchanged(TURN, 30),
        unchanged(TURN_EXT, 0),
        Compare("/aisix/provider_keys/pk", Compared.VERSION, Comparison.GREATER, 0),
    ]
    assert [each.key for each in plan.operations] == [
        "/aisix/models/1",
        "/run/aisix/history/models/1",
        AUDIT,
        TURN,
    ]
    assert json.loads(put(plan, "/aisix/models/1")) == DIRECT
    assert plan.facts == {("models", "1"): Facts("gpt", None, (("provider_keys", "id", "pk"),))}
    assert plan.overhead == sum(len(each.value) for each in plan.operations[1:] if isinstance(each, Put))
    first = TRANSACTIONS.plan(planner([edit(MODELS, "1", DIRECT)], {}), Shared(), (), WISH)
    assert unchanged(TURN, 0) in first.compare, "nobody took a turn before"


def test_the_history_and_audit_of_a_change() -> None:
    changed = edit(PROVIDER_KEYS, "1", {**PROVIDER, "api_key": "canary-2", "api_base": "https://a.example"})
    plan = planned([changed], {(PROVIDER_KEYS, "1"): PROVIDER})
    history = read_history(put(plan, "/run/aisix/history/provider_keys/1"), 60)
    assert [(one.number, one.action, one.by, one.revision) for one in history.versions] == [
        (1, FOUND, "", 10),
        (2, "replaced", "ops", 60),
    ]
    assert history.last is not None and history.last.value is not None
    assert history.last.value["api_key"] == "***" and history.last.at == "2026-01-02T00:00:00Z"
    assert set(history.last.changed) == {"/api_key", "/api_base"}
    one = read_entry(put(plan, AUDIT))
    assert one is not None and (one.who, one.address, one.request_id) == ("ops", "192.0.2.1", "r-1")
    (told,) = one.changes
    assert (told.kind, told.id, told.action, told.label) == ("provider_keys", "1", "replaced", "p")
    assert set(told.changed) == {"/api_key", "/api_base"} and not one.forced
    written = [each.value for each in plan.operations if isinstance(each, Put) and each.key.startswith("/run")]
    assert b"canary" not in b"".join(written)


def test_no_path_leads_into_a_secret() -> None:
    def provider(body: Any) -> dict[str, Any]:
        return {**PROVIDER, "request": {"default_body_fields": {"user": body}, "default_headers": {"x-a": "canary-3"}}}

    for before, after, paths in (
        ({"canary-4": 1, "b": 2}, {"canary-4": 2, "b": 2}, ("/request/default_body_fields/user",)),
        ({"canary-4": 1, "b": 2}, {"b": 2, "canary-4": 1}, ()),
        ("canary-5", {"canary-4": 1}, ("/request/default_body_fields/user",)),
    ):
        plan = planned([edit(PROVIDER_KEYS, "1", provider(after))], {(PROVIDER_KEYS, "1"): provider(before)})
        one = read_entry(put(plan, AUDIT))
        assert one is not None and one.changes[0].changed == paths
        written = [each.value for each in plan.operations if isinstance(each, Put) and each.key.startswith("/run")]
        assert b"canary" not in b"".join(written)


def test_a_caller_key_is_told_by_its_label_never_by_its_hash() -> None:
    def told(key: dict[str, Any]) -> str | None:
        changed = {"key_hash": "b" * 64, **{name: item for name, item in key.items() if name != "key_hash"}}
        for after in (changed, None):
            plan = planned([edit(API_KEYS, "1", after)], {(API_KEYS, "1"): key})
            assert HASH.encode() not in put(plan, AUDIT) and b"b" * 64 not in put(plan, AUDIT)
        one = read_entry(put(plan, AUDIT))
        assert one is not None
        return one.changes[0].label

    assert told({"key_hash": HASH, "allowed_models": [], "display_name": "alice"}) == "alice"
    assert told({"key_hash": HASH, "allowed_models": []}) is None


def test_a_deletion_leaves_its_history() -> None:
    plan = planned([edit(MODELS, "1", None)], {(MODELS, "1"): DIRECT})
    assert Delete("/aisix/models/1") in plan.operations
    assert plan.facts == {("models", "1"): None} and plan.claims == {}
    last = read_history(put(plan, "/run/aisix/history/models/1")).last
    assert last is not None and (last.action, last.value, last.changed) == ("deleted", None, ())


def test_a_purge_erases_the_history_and_not_the_audit() -> None:
    wish = Wish(WISH.actor, NOW, WISH.segment, 20, purge=True, forced=True)
    plan = planned([edit(MODELS, "1", None)], {(MODELS, "1"): DIRECT}, wish)
    assert Delete("/run/aisix/history/models/1") in plan.operations
    one = read_entry(put(plan, AUDIT))
    assert one is not None and one.forced and one.changes[0].label == "gpt"
    gone = planned([Edit(MODELS, "1", "purged")], {}, wish)
    assert [each.key for each in gone.operations] == ["/run/aisix/history/models/1", AUDIT], "no row comes or goes"


def test_only_so_many_versions_are_kept() -> None:
    past = appended(History(), Version(0, "", "ops", "created", value=DIRECT), 20)
    made = planner([edit(MODELS, "1", DIRECT)], {(MODELS, "1"): DIRECT}, {("models", "1"): past})
    two = read_history(put(TRANSACTIONS.plan(made, Shared(), (), WISH), "/run/aisix/history/models/1"), 60)
    assert [(one.number, one.revision) for one in two.versions] == [(1, 10), (2, 60)]
    wish = Wish(WISH.actor, NOW, WISH.segment, 1)
    assert (
        len(read_history(put(TRANSACTIONS.plan(made, Shared(), (), wish), "/run/aisix/history/models/1")).versions) == 1
    )


def test_a_row_that_cannot_be_read_is_told_as_new() -> None:
    plan = planned([edit(MODELS, "1", DIRECT)], {(MODELS, "1"): b"not json canary"})
    history = read_history(put(plan, "/run/aisix/history/models/1"))
    assert [one.action for one in history.versions] == ["replaced"]
    assert "/display_name" in history.versions[0].changed
    gone = planned([edit(MODELS, "1", None)], {(MODELS, "1"): b"not json canary"})
    assert b"canary" not in b"".join(each.value for each in gone.operations if isinstance(each, Put))


@pytest.mark.parametrize(
    ("edits", "purge"),
    [
        ([edit(MODELS, "1", DIRECT), edit(PROVIDER_KEYS, "pk", PROVIDER)], False),
        ([edit(MODELS, "1", None), edit(MODELS, "2", router("new", "x"))], False),
        ([edit(MODELS, "1", None), edit(MODELS, "2", None)], True),
    ],
)
def test_undoing_restores_everything_but_the_turn(edits: Sequence[Edit], purge: bool) -> None:
    stored: Stored = {(MODELS, "1"): DIRECT, (MODELS, "2"): b"not json"}
    histories = {("models", "1"): appended(History(), Version(0, "", "", "x", value={}), 20)}
    before = {ROOTS.resource(kind.name, id): raw(value) for (kind, id), value in stored.items()}
    before |= {ROOTS.history(*place): raw for place, raw in histories.items()} | {TURN: b"7"}
    wish = Wish(WISH.actor, NOW, WISH.segment, 20, purge=purge)
    plan = TRANSACTIONS.plan(planner(edits, stored, histories), SHARED, (), wish)
    after = applied(before, plan.operations)
    assert after != before
    assert applied(after, plan.undo) == {**before, TURN: b"8-token.0"}


# limits


def test_a_document_must_fit() -> None:
    value = check(MODELS, DIRECT)
    big = Edit(MODELS, "1", "replaced", value, {**DIRECT, "new": "canary" * (VALUE_LIMIT // 6)})
    with pytest.raises(TooLarge) as refused:
        planned([big], {})
    assert "canary" not in refused.value.message and str(VALUE_LIMIT) in refused.value.message


def test_a_set_must_fit_with_its_history() -> None:
    quarter = {**PROVIDER, "tls": {"ca_cert": "x" * (BYTES_OF_ONE - 4096)}}
    edits = [edit(PROVIDER_KEYS, str(n), {**quarter, "display_name": str(n)}) for n in range(3)]
    assert planned(edits[:1], {})
    with pytest.raises(TooLarge, match=r"^this set needs \d+ bytes of etcd, history and audit included; 1048576 "):
        planned(edits, {})


def test_one_write_always_fits_into_a_transaction_of_etcd() -> None:
    names = {"n" * 9000 + str(n): "x" for n in range(100)}
    long = edit(PROVIDER_KEYS, "1", {**PROVIDER, "request": {"default_headers": names}})
    plan = planned([long], {})
    assert plan.overhead < BYTES_OF_ONE + 128 * 1024
    assert sum(len(each.value) for each in plan.operations if isinstance(each, Put)) < 1.5 * 1024 * 1024


def test_many_references_are_guarded_as_far_as_etcd_compares() -> None:
    many = edit(MODELS, "1", router("r", *(f"m{n:03}" for n in range(300))))
    plan = planned([many], {}, exist=[f"/aisix/models/{n}" for n in range(300)])
    assert len(plan.compare) <= 128
    assert unchanged(TURN, 30) in plan.compare and unchanged(AUDIT, 0) in plan.compare
