"""From edits to one transaction: what is compared, written and told. Without etcd."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from aisix_admin.audit import read_entry
from aisix_admin.errors import NoKeyring, TooLarge, WrongKeyring
from aisix_admin.facts import Facts
from aisix_admin.history import BYTES_OF_ONE, FOUND, History, Version, appended, read_history
from aisix_admin.planning import Edit, Planner, View
from aisix_admin.sealing import Sealing
from aisix_admin.transaction import VALUE_LIMIT, Shared, Transactions, Wish
from aisix_common.resources import API_KEYS, MODELS, PROVIDER_KEYS, SECRET_PROVIDERS, check, document, masked
from aisix_common.secrets.canary import canary_row, verify
from aisix_common.secrets.envelope import NO_KEYRING, Keyring
from aisix_common.secrets.rows import context, sealed
from aisix_common.store.types import Compare, Compared, Comparison, Delete, KeyValue, Put, unchanged

from tests.support.admin import KEYRING
from tests.support.planned import (
    AUDIT,
    CANARY,
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
    index_of,
    keys,
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


# secrets


THEIR_KEYRING = Keyring([("theirs", bytes(32))])
OTHERS = KeyValue(CANARY, canary_row(THEIR_KEYRING), 20, 20)
KEY = f"{ROOTS.resources}/provider_keys/1"


def sealed_row(document: Mapping[str, Any], keyring: Keyring = KEYRING) -> dict[str, Any]:
    """A provider key `1` as an admin with this keyring stores it."""
    stored = sealed(PROVIDER_KEYS, "1", document, check(PROVIDER_KEYS, dict(document)), keyring)
    return stored.document


BODY = sealed_row({**PROVIDER, "request": {"default_body_fields": {"user": {"a": 2, "b": 1}}}})


def test_secrets_are_sealed_for_their_place_and_the_canary_is_compared() -> None:
    plan = planned([edit(PROVIDER_KEYS, "1", PROVIDER)], {})
    assert b"canary-1" not in b"".join(each.value for each in plan.operations if isinstance(each, Put))
    text = json.loads(put(plan, KEY))["api_key"]
    assert KEYRING.open(text, context("provider_keys", "1", ("api_key",))) == "canary-1"
    assert plan.sealed and unchanged(CANARY, 20) in plan.compare
    assert CANARY not in keys(plan.operations)


def test_the_first_secret_makes_the_canary_which_is_never_taken_back() -> None:
    plan = TRANSACTIONS.plan(planner([edit(PROVIDER_KEYS, "1", PROVIDER)], {}), Shared(), (), WISH)
    assert unchanged(CANARY, 0) in plan.compare and verify(put(plan, CANARY), KEYRING) is None
    assert CANARY not in keys(plan.undo)


def test_what_seals_nothing_is_not_stopped_by_the_canary() -> None:
    kept = {**sealed_row(PROVIDER), "strip_headers": ["cookie"]}
    stored: Stored = {(PROVIDER_KEYS, "1"): sealed_row(PROVIDER)}
    for edits in ([edit(PROVIDER_KEYS, "1", kept)], [edit(PROVIDER_KEYS, "1", None)], [edit(MODELS, "2", DIRECT)]):
        plan = TRANSACTIONS.plan(planner(edits, stored), Shared(canary=OTHERS), (), WISH)
        assert not plan.sealed and CANARY not in keys(plan.operations)
        assert CANARY not in [each.key for each in plan.compare]
    referring = {**PROVIDER, "api_key": "$secret://vault/main/kv/key"}
    plan = planned([edit(PROVIDER_KEYS, "1", referring)], {})
    assert json.loads(put(plan, KEY))["api_key"] == referring["api_key"] and not plan.sealed


def test_what_would_be_sealed_with_a_strange_key_is_refused() -> None:
    made = planner([edit(PROVIDER_KEYS, "1", PROVIDER)], {})
    with pytest.raises(WrongKeyring, match='encrypted with key "theirs", which is not in this service'):
        TRANSACTIONS.plan(made, Shared(canary=OTHERS), (), WISH)
    with pytest.raises(WrongKeyring, match="damaged"):
        TRANSACTIONS.plan(made, Shared(canary=KeyValue(CANARY, b"{}", 1, 1)), (), WISH)


def test_without_a_keyring_no_secret_is_stored_in_clear_unless_that_is_allowed() -> None:
    strict, lax = (Transactions(ROOTS, Sealing(lambda: NO_KEYRING, allow_plaintext=allow)) for allow in (False, True))
    new = {**PROVIDER, "request": {"default_headers": {"x": "canary-2"}}}
    made = planner([edit(PROVIDER_KEYS, "1", new)], {})
    with pytest.raises(NoKeyring, match=r"/api_key, /request/default_headers/x with: set secrets\.keyring") as refused:
        strict.plan(made, Shared(), (), WISH)
    assert "canary" not in str(refused.value)
    plan = lax.plan(made, Shared(), (), WISH)
    assert json.loads(put(plan, KEY))["api_key"] == "canary-1" and not plan.sealed
    row = sealed_row(PROVIDER)
    plan = strict.plan(planner([edit(PROVIDER_KEYS, "1", row)], {(PROVIDER_KEYS, "1"): row}), Shared(), (), WISH)
    assert json.loads(put(plan, KEY))["api_key"] == row["api_key"], "what was kept is as it was"


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (sealed_row(PROVIDER), PROVIDER, ()),
        (sealed_row(PROVIDER, THEIR_KEYRING), PROVIDER, ("/api_key",)),
        (sealed_row(PROVIDER), {**PROVIDER, "api_key": "canary-2"}, ("/api_key",)),
        (PROVIDER, PROVIDER, ()),
        (BODY, {**PROVIDER, "request": {"default_body_fields": {"user": {"b": 1, "a": 2}}}}, ()),
        (BODY, {**PROVIDER, "request": {"default_body_fields": {"user": "x"}}}, ("/request/default_body_fields/user",)),
    ],
)
def test_the_same_secret_again_is_no_change(
    before: dict[str, Any], after: dict[str, Any], changed: tuple[str, ...]
) -> None:
    plan = planned([edit(PROVIDER_KEYS, "1", after)], {(PROVIDER_KEYS, "1"): before})
    assert plan.told[0].changed == changed
    assert json.loads(put(plan, KEY))["api_key"].startswith("enc:v1:test:"), "what others left in clear is sealed, too"


def test_a_row_that_was_encrypted_anew_is_no_new_version() -> None:
    value = check(PROVIDER_KEYS, PROVIDER)
    past = appended(History(), Version(0, "", "ops", "created", value=masked(PROVIDER_KEYS, value)), 20)
    renamed = edit(PROVIDER_KEYS, "1", {**PROVIDER, "display_name": "q"})
    stored: Stored = {(PROVIDER_KEYS, "1"): sealed_row(document(PROVIDER_KEYS, value))}
    rows = planner([renamed], stored, {("provider_keys", "1"): past})
    moved = replace(rows.view.histories["provider_keys", "1"] or pytest.fail("none"), mod_revision=5)
    view = View(rows.view.rows, {("provider_keys", "1"): moved})
    plan = TRANSACTIONS.plan(Planner([renamed], view, index_of(stored)), SHARED, (), WISH)
    versions = read_history(put(plan, "/run/aisix/history/provider_keys/1"), 60).versions
    assert [(one.number, one.action, one.revision) for one in versions] == [(1, "created", 10), (2, "replaced", 60)]


# the turns


VAULT = {"manager": "vault", "name": "main", "uri": "https://vault.example", "auth": {"method": "token", "token": "t"}}


def test_each_root_has_its_turn_and_every_structural_write_looks_at_both() -> None:
    keyed = edit(PROVIDER_KEYS, "1", {**PROVIDER, "api_key": "$secret://vault/main/kv/key"})
    vault, model = edit(SECRET_PROVIDERS, "v", VAULT), edit(MODELS, "2", router("r", "x"))
    for edits, turns in (([vault], {TURN_EXT}), ([keyed, model], {TURN}), ([vault, keyed], {TURN, TURN_EXT})):
        plan = planned(edits, {})
        assert unchanged(TURN, 30) in plan.compare and unchanged(TURN_EXT, 0) in plan.compare
        assert keys(plan.operations) & {TURN, TURN_EXT} == turns
    elsewhere = edit(SECRET_PROVIDERS, "v", {**VAULT, "kv_version": "v1"})
    plan = planned(
        [elsewhere, edit(MODELS, "2", router("r", "y"))],
        {(SECRET_PROVIDERS, "v"): VAULT, (MODELS, "2"): router("r", "x")},
    )
    assert keys(plan.operations) & {TURN, TURN_EXT} == {TURN}, "a provider that changes is no structural change"
    assert {"/ext/aisix/secret_providers/v", "/run/aisix/history/secret_providers/v"} < keys(plan.operations)
