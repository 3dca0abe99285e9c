"""Snapshots from listings and changes: acceptance, last good values, what changed, and purity."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_common.resources import GUARDRAILS, MCP_AUTH_SETTINGS, MCP_POLICIES, ApiKey, Model, ProviderKey
from aisix_common.snapshot import Pin, Snapshot, apply, build, empty, restore
from aisix_common.store.types import Deleted, KeyValue

from .rows import BAD, LATER, MUCH_LATER, NOON, PREFIX, api_key, changes, gone, listing, row

START = empty(PREFIX)


def built(*rows: KeyValue) -> Snapshot:
    return build(listing(*rows), START, NOON)


class TestRows:
    def test_rows_are_found_by_id_and_name(self) -> None:
        snapshot = built(
            api_key("a", "h1", 5),
            row("models/m", b'{"display_name":"x","provider":"p","model_name":"m","provider_key_id":"k"}', 6),
            row("provider_keys/k", b'{"display_name":"pk","api_key":"s"}', 7, created=3),
        )
        keys = snapshot.table(ApiKey)
        assert keys.by_id["a"] is keys.by_name["h1"]
        assert keys.by_id["a"].value.allowed_models == ("gpt-4o",)
        assert snapshot.table(Model).by_name["x"].id == "m"
        entry = snapshot.table(ProviderKey).by_name["pk"]
        assert (entry.revision, entry.create_revision) == (7, 3)
        assert snapshot.revision == 7
        assert snapshot.served == 3
        assert not snapshot.rejected

    @pytest.mark.parametrize(
        ("key", "value", "failure", "kind", "row_id"),
        [
            ("/aisix/models", b"{}", "bad_key", "", ""),
            ("/aisix/models/", b"{}", "bad_key", "", ""),
            ("/aisix//x", b"{}", "bad_key", "", ""),
            ("/aisix", b"{}", "bad_key", "", ""),
            ("/aisix-b/models/x", b"{}", "bad_key", "", ""),
            ("/aisix/env/models/x", b"{}", "unknown_kind", "env", "models/x"),
            ("/aisix/apikeys/x", b"{}", "unknown_kind", "apikeys", "x"),
            ("/aisix/apikeys/x", b"{", "non_json", "apikeys", "x"),
            ("/aisix/models/x", b"{", "non_json", "models", "x"),
            ("/aisix/models/x", b"{}", "schema_failed", "models", "x"),
            (
                "/aisix/api_keys/x",
                b'{"key_hash":"x","allowed_models":[],"rate_limit":{"rpm":1.0}}',
                "parse_failed",
                "api_keys",
                "x",
            ),
        ],
    )
    def test_rejections(self, key: str, value: bytes, failure: str, kind: str, row_id: str) -> None:
        snapshot = built(KeyValue(key, value, 1, 1))
        rejected = snapshot.rejected[key]
        assert (rejected.failure, rejected.kind, rejected.id) == (failure, kind, row_id)
        assert snapshot.served == 0
        assert not len(apply(snapshot, changes(Deleted(key, 2)), LATER).rejected)

    def test_an_id_may_hold_slashes(self) -> None:
        assert "a/b/c" in built(api_key("a/b/c", "h", 1)).table(ApiKey).by_id

    def test_rows_without_a_name_are_found_by_id_only(self) -> None:
        old, new = b'{"scope":"env","allow":[]}', b'{"scope":"env","allow":["*"]}'
        snapshot = built(row("mcp_policies/a", old, 1), row("mcp_policies/b", old, 2))
        table = snapshot.table(MCP_POLICIES)
        assert (len(table.by_id), len(table.by_name), list(table.shadowed())) == (2, 0, [])
        after = apply(snapshot, changes(row("mcp_policies/a", new, 3), gone("mcp_policies/b", 4)), LATER)
        assert after.touched == {"mcp_policies": frozenset({"a", "b"})}
        assert list(after.table(MCP_POLICIES).by_id) == ["a"]

    def test_a_second_row_of_a_singleton_is_shadowed(self) -> None:
        snapshot = built(row("mcp_auth_settings/a", b"{}", 1), row("mcp_auth_settings/b", b"{}", 2))
        assert list(snapshot.table(MCP_AUTH_SETTINGS).shadowed()) == [("b", "a")]

    def test_a_row_of_a_union_may_become_another_member(self) -> None:
        keyword = row("guardrails/g", b'{"name":"a","kind":"keyword","patterns":[]}', 1)
        snapshot = apply(built(keyword), changes(row("guardrails/g", b'{"name":"a","kind":"pii"}', 2)), LATER)
        assert snapshot.table(GUARDRAILS).by_name["a"].value.kind == "pii"

    def test_unknown_fields_are_kept_by_row(self) -> None:
        snapshot = built(api_key("a", "h1", 1, new=1), api_key("b", "h2", 2))
        assert dict(snapshot.table(ApiKey).unknown) == {"a": ("new",)}
        after = apply(snapshot, changes(api_key("a", "h1", 3, created=1)), LATER)
        assert not len(after.table(ApiKey).unknown)


class TestLastGood:
    def test_a_row_that_turns_bad_keeps_its_last_good_value(self) -> None:
        good = built(api_key("a", "h1", 5))
        bad = apply(good, changes(row("api_keys/a", BAD, 6, created=5)), LATER)
        assert bad.table(ApiKey).by_name["h1"].revision == 5
        rejected = bad.rejected["/aisix/api_keys/a"]
        assert (rejected.first_seen, rejected.stale_since) == (LATER, LATER)
        assert bad.apply_seq == good.apply_seq

        worse = apply(bad, changes(row("api_keys/a", b"{", 7, created=5)), MUCH_LATER)
        rejected = worse.rejected["/aisix/api_keys/a"]
        assert (rejected.first_seen, rejected.last_seen, rejected.stale_since) == (LATER, MUCH_LATER, LATER)
        assert rejected.failure == "non_json"

        well = apply(worse, changes(api_key("a", "h2", 8, created=5)), MUCH_LATER)
        assert not len(well.rejected)
        assert "h1" not in well.table(ApiKey).by_name

    def test_it_survives_a_new_listing(self) -> None:
        bad_row = row("api_keys/a", BAD, 6, created=5)
        bad = apply(built(api_key("a", "h1", 5)), changes(bad_row), LATER)
        again = build(listing(bad_row), bad, MUCH_LATER)
        assert "h1" in again.table(ApiKey).by_name
        assert again.rejected["/aisix/api_keys/a"].stale_since == LATER
        assert again.apply_seq == bad.apply_seq

    def test_a_row_that_turned_bad_while_nobody_looked(self) -> None:
        again = build(listing(row("api_keys/a", BAD, 9, created=5)), built(api_key("a", "h1", 5)), LATER)
        assert "h1" in again.table(ApiKey).by_name

    def test_a_row_that_was_never_good_is_absent(self) -> None:
        assert built(row("api_keys/a", BAD, 5)).served == 0

    def test_a_deleted_row_does_not_live_on(self) -> None:
        bad = apply(built(api_key("a", "h1", 5)), changes(row("api_keys/a", BAD, 6, created=5)), LATER)
        after = apply(bad, changes(gone("api_keys/a", 7)), LATER)
        assert after.served == 0
        assert not len(after.rejected)
        assert build(listing(revision=9), bad, LATER).served == 0

    def test_nor_when_it_is_made_anew_and_bad(self) -> None:
        good = built(api_key("a", "h1", 5))
        remade = row("api_keys/a", BAD, 8, created=8)
        for after in (
            apply(good, changes(gone("api_keys/a", 7), remade), LATER),
            apply(good, changes(remade), LATER),
            build(listing(remade), good, LATER),
        ):
            assert after.served == 0
            assert after.rejected["/aisix/api_keys/a"].stale_since is None

    def test_it_survives_a_restart(self) -> None:
        pin = Pin(api_key("a", "h1", 5), NOON)
        unreadable = Pin(row("api_keys/b", BAD, 5), NOON)
        rows = listing(row("api_keys/a", BAD, 6, created=5), row("api_keys/b", BAD, 6, created=5))
        snapshot = restore(rows, [pin, unreadable], PREFIX, LATER)
        assert "h1" in snapshot.table(ApiKey).by_name
        assert snapshot.rejected["/aisix/api_keys/a"].stale_since == NOON
        assert snapshot.rejected["/aisix/api_keys/b"].stale_since is None
        assert snapshot.apply_seq == 1
        assert snapshot.touched is None, "the last good value was never handed out"


class TestWhatChanged:
    def test_an_unchanged_table_is_the_same_object(self) -> None:
        before = built(api_key("a", "h", 1))
        after = apply(before, changes(row("models/m", b"{}", 2)), LATER)
        assert after.table(ApiKey) is before.table(ApiKey)
        assert after.touched == {}

    def test_content_moves_apply_seq_and_spelling_does_not(self) -> None:
        first = built(row("api_keys/a", b'{"key_hash":"h","allowed_models":[]}', 1))
        assert (first.apply_seq, first.applied_at) == (1, NOON)
        respelt = apply(
            first, changes(row("api_keys/a", b' {"allowed_models":[],"key_hash":"h"}', 2, created=1)), LATER
        )
        assert (respelt.apply_seq, respelt.applied_at) == (1, NOON)
        assert respelt.table(ApiKey).by_id["a"].revision == 2
        changed = apply(respelt, changes(api_key("a", "h", 3, created=1)), LATER)
        assert (changed.apply_seq, changed.applied_at) == (2, LATER)
        removed = apply(changed, changes(gone("api_keys/a", 4)), MUCH_LATER)
        assert (removed.apply_seq, removed.applied_at) == (3, MUCH_LATER)

    def test_a_listing_that_tells_nothing_new(self) -> None:
        rows = [api_key(f"{n}", f"h{n}", n + 1) for n in range(5)]
        first = built(*rows)
        again = build(listing(*rows, revision=50), first, LATER)
        assert (again.apply_seq, again.touched, again.revision) == (1, {}, 50)
        assert again.table(ApiKey).by_id["3"] is first.table(ApiKey).by_id["3"]

    def test_a_listing_with_one_row_less(self) -> None:
        rows = [api_key(f"{n}", f"h{n}", n + 1) for n in range(5)]
        again = build(listing(*rows[1:], revision=50), built(*rows), LATER)
        assert (again.apply_seq, again.touched) == (2, {"api_keys": frozenset({"0"})})

    def test_a_delete_of_nothing_moves_the_revision(self) -> None:
        after = apply(built(api_key("a", "h", 1)), changes(gone("api_keys/zzz", 9)), LATER)
        assert (after.revision, after.apply_seq) == (9, 1)


IDS = st.sampled_from("abcd")
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), IDS, st.sampled_from(["h1", "h2", "h3"])),
        st.tuples(st.just("bad"), IDS, st.just("")),
        st.tuples(st.just("delete"), IDS, st.just("")),
        st.tuples(st.just("foreign"), IDS, st.just("")),
    ),
    max_size=30,
)


class Etcd:
    """As little of etcd as a history of rows needs."""

    def __init__(self) -> None:
        self.rows: dict[str, KeyValue] = {}
        self.revision = 1

    def do(self, what: str, row_id: str, name: str) -> KeyValue | Deleted:
        self.revision += 1
        path = f"nonsense/{row_id}" if what == "foreign" else f"api_keys/{row_id}"
        key = f"{PREFIX}/{path}"
        if what == "delete":
            self.rows.pop(key, None)
            return Deleted(key, self.revision)
        created = self.rows[key].create_revision if key in self.rows else self.revision
        if what == "put":
            event = api_key(row_id, name, self.revision, created, **({"new": 1} if row_id == "b" else {}))
        else:
            event = row(path, BAD, self.revision, created)
        self.rows[key] = event
        return event


def told(snapshot: Snapshot) -> Any:
    """All that two snapshots of one state must agree on."""
    table = snapshot.table(ApiKey)
    return (
        dict(table.by_id),
        dict(table.by_name),
        dict(table.unknown),
        set(table.shadowed()),
        {key: (bad.failure, bad.raw, bad.stale_since is None) for key, bad in snapshot.rejected.items()},
    )


@given(EVENTS, st.integers(0, 30), st.lists(st.integers(1, 5), max_size=10))
def test_any_split_of_a_history_ends_in_the_same_snapshot(
    events: list[Any], listed_after: int, sizes: list[int]
) -> None:
    etcd = Etcd()
    history = [etcd.do(*event) for event in events[:listed_after]]
    stepwise = START
    for event in history:
        stepwise = apply(stepwise, changes(event), NOON)
    start = build(listing(*etcd.rows.values(), revision=etcd.revision), stepwise, NOON)
    assert told(start) == told(stepwise)
    rest = [etcd.do(*event) for event in events[listed_after:]]
    batched = one_by_one = start
    for event in rest:
        one_by_one = apply(one_by_one, changes(event), NOON)
    while rest:
        size = sizes.pop() if sizes else len(rest)
        batched, rest = apply(batched, changes(*rest[:size]), NOON), rest[size:]
    assert told(batched) == told(one_by_one)
    assert told(build(listing(*etcd.rows.values(), revision=etcd.revision), one_by_one, NOON)) == told(one_by_one)
    good = {key: kept for key, kept in etcd.rows.items() if key not in one_by_one.rejected}
    fresh = build(listing(*good.values(), revision=etcd.revision), START, NOON)
    if not len(one_by_one.rejected):
        assert told(fresh) == told(one_by_one)


def test_the_snapshot_before_stays_as_it_was() -> None:
    rows = [api_key(f"{n}", f"h{n % 1900}", n + 1) for n in range(2000)]
    before = built(*rows)
    then = told(before)
    after = before
    for n in range(0, 2000, 100):
        after = apply(after, changes(gone(f"api_keys/{n}", 5000 + n), api_key(f"new{n}", f"h{n}", 5001 + n)), LATER)
    assert told(before) == then
    assert told(after) != then
