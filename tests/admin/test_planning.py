"""From edits to one transaction: what is claimed, freed and asked, and what is written. Without etcd."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from aisix_admin.audit import Actor, read_entry
from aisix_admin.errors import TooLarge
from aisix_admin.facts import NOTHING, Facts, Pointed
from aisix_admin.history import BYTES_OF_ONE, FOUND, History, Version, appended, read_history
from aisix_admin.index import Place, ResourceIndex
from aisix_admin.planning import VALUE_LIMIT, Edit, Plan, Planner, Shared, View, Wish, require_few
from aisix_admin.rows import Roots
from aisix_admin.sealing import Sealing
from aisix_common.resources import API_KEYS, BY_NAME, KINDS, MODELS, PROVIDER_KEYS, Kind, check, document
from aisix_common.secrets.canary import canary_row
from aisix_common.store.types import Compare, Compared, Comparison, Delete, KeyValue, Listing, Operation, Put, unchanged

from tests.support.admin import KEYRING

ROOTS = Roots("/aisix", "/run/aisix", "/ext/aisix")
NOW = datetime(2026, 1, 2, tzinfo=UTC)
WISH = Wish(Actor("ops", "192.0.2.1", "r-1"), NOW, "8-token.0", 20)
TURN = "/run/aisix/turn"
TURN_EXT = "/run/aisix/turn-ext"
CANARY = "/run/aisix/keyring"
AUDIT = "/run/aisix/audit/8-token.0"
SHARED = Shared(KeyValue(TURN, b"7-older.0", 3, 30), None, KeyValue(CANARY, canary_row(KEYRING), 2, 20))
SEALING = Sealing(lambda: KEYRING, allow_plaintext=False)
HASH = "a" * 64

DIRECT = {"display_name": "gpt", "provider": "openai", "model_name": "m", "provider_key_id": "pk"}
PROVIDER = {"display_name": "p", "api_key": "canary-1"}


def router(name: str, *targets: str) -> dict[str, Any]:
    return {"display_name": name, "routing": {"targets": [{"model": each} for each in targets]}}


def edit(kind: Kind[Any], id: str, sent: Mapping[str, Any] | None, action: str = "replaced") -> Edit:
    if sent is None:
        return Edit(kind, id, "deleted")
    value = check(kind, dict(sent))
    return Edit(kind, id, action, value, document(kind, value))


Stored = Mapping[tuple[Kind[Any], str], Any]


def planner(
    edits: Sequence[Edit],
    stored: Stored,
    histories: Mapping[Place, bytes] | None = None,
    given: Collection[Pointed] = (),
) -> Planner:
    """A planner over an etcd that holds `stored`, row n at revision 10 + n; the index knows all of it."""
    rows = {
        (kind.name, id): KeyValue(ROOTS.resource(kind.name, id), _raw(value), 10 + n, 10 + n)
        for n, ((kind, id), value) in enumerate(stored.items())
    }
    index = ResourceIndex("/aisix", KINDS)
    index.apply(Listing(tuple(rows.values()), 50))
    past = {
        place: KeyValue(ROOTS.history(*place), raw, 9, rows[place].mod_revision if place in rows else 9)
        for place, raw in (histories or {}).items()
    }
    view = View(
        {each.place: rows.get(each.place) for each in edits},
        {each.place: past.get(each.place) for each in edits},
    )
    return Planner(edits, view, index, SEALING, given)


def _raw(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def planned(edits: Sequence[Edit], stored: Stored, wish: Wish = WISH, exist: Sequence[str] = ()) -> Plan:
    return planner(edits, stored).plan(ROOTS, SHARED, exist, wish)


def put(plan: Plan, key: str) -> bytes:
    (value,) = [each.value for each in plan.operations if isinstance(each, Put) and each.key == key]
    return value


def applied(rows: Mapping[str, bytes], operations: Sequence[Operation]) -> dict[str, bytes]:
    """What a small etcd holds after `operations`."""
    after = dict(rows)
    for each in operations:
        if isinstance(each, Put):
            after[each.key] = each.value
        else:
            after.pop(each.key, None)
    return after


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


# the transaction


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
    first = planner([edit(MODELS, "1", DIRECT)], {}).plan(ROOTS, Shared(), (), WISH)
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
    two = read_history(put(made.plan(ROOTS, Shared(), (), WISH), "/run/aisix/history/models/1"), 60)
    assert [(one.number, one.revision) for one in two.versions] == [(1, 10), (2, 60)]
    wish = Wish(WISH.actor, NOW, WISH.segment, 1)
    assert len(read_history(put(made.plan(ROOTS, Shared(), (), wish), "/run/aisix/history/models/1")).versions) == 1


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
    before = {ROOTS.resource(kind.name, id): _raw(value) for (kind, id), value in stored.items()}
    before |= {ROOTS.history(*place): raw for place, raw in histories.items()} | {TURN: b"7"}
    wish = Wish(WISH.actor, NOW, WISH.segment, 20, purge=purge)
    plan = planner(edits, stored, histories).plan(ROOTS, SHARED, (), wish)
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
