"""Resolved references over snapshots: what is served, what is out of service, and what that costs."""

import time
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisix_common.resources import API_KEYS, ApiKey, Kind, ProviderKey, Rejected, hash_key
from aisix_common.resources.concealed import resolved
from aisix_common.secret import Secret
from aisix_common.secrets.rows import context
from aisix_common.snapshot import Entry, Overlay, RejectedRow, Snapshot, apply, build, config_hash, empty, source_hash
from aisix_common.snapshot.table_draft import TableDraft
from aisix_common.store.types import KeyValue, Listing

from .rows import BAD, LATER, MUCH_LATER, NOON, PREFIX, api_key, changes, gone, listing, row
from .sealed import OLD

START = empty(PREFIX)
A, B = "$env://AISIX_SECRET_A", "$secret://vault/main/b/key"


class Managers:
    """What references lead to now, asked as the overlay asks."""

    def __init__(self, **known: str) -> None:
        self.known = {A: known.get("a"), B: known.get("b")}
        self.asked: list[str] = []

    def __call__(self, kind: Kind[Any], entry: Entry[Any]) -> Any:
        self.asked.append(entry.id)

        def secret(text: str) -> Secret:
            found = self.known.get(text)
            if found is None:
                raise LookupError(text)
            return Secret(found)

        try:
            return resolved(kind, entry.value, secret)
        except LookupError:
            return Rejected("secret_unresolved", "leads nowhere")


class Stage:
    """An overlay over a history of rows."""

    def __init__(self, **known: str) -> None:
        self.managers = Managers(**known)
        self.overlay = Overlay(PREFIX)
        self.base = self.served = START

    def read(self, *rows: KeyValue, now: datetime = NOON) -> Snapshot:
        self.base = build(listing(*rows), self.base, now, OLD)
        return self.look(now=now)

    def change(self, *events: Any, now: datetime = LATER) -> Snapshot:
        self.base = apply(self.base, changes(*events), now, OLD)
        return self.look(now=now)

    def look(self, *again: str, now: datetime = LATER) -> Snapshot:
        """`again` are api keys whose references may lead elsewhere."""
        self.managers.asked.clear()
        ids = {"api_keys": frozenset(again)} if again else {}
        self.served = self.overlay.apply(self.base, self.managers, ids, now)
        return self.served

    @property
    def keys(self) -> dict[str, str]:
        """Who has which key."""
        return {name: entry.id for name, entry in self.served.table(ApiKey).by_name.items()}

    @property
    def rejected(self) -> dict[str, RejectedRow]:
        return {bad.id: bad for bad in self.served.rejected.values()}


def holders(overlay: Overlay, base: Snapshot) -> set[tuple[str, str]]:
    """(kind, id) of the rows of `base` that hold references."""
    return {(kind, id) for kind, table in base.tables.items() for id in table.by_id if overlay.holds(kind, id)}


def provider_key(row_id: str, api_key: str, revision: int) -> KeyValue:
    return row(f"provider_keys/{row_id}", f'{{"display_name":"{row_id}","api_key":"{api_key}"}}'.encode(), revision)


class TestWithoutReferences:
    def test_the_snapshot_itself_is_served(self) -> None:
        stage = Stage()
        assert stage.read(api_key("a", "h", 1), provider_key("p", "cash $", 2)) is stage.base
        assert stage.change(api_key("b", "h", 3), gone("api_keys/a", 4)) is stage.base
        assert stage.look("a", "b") is stage.base
        assert stage.managers.asked == []
        assert not holders(stage.overlay, stage.base)

    def test_snapshots_that_were_left_out_are_made_up_for(self) -> None:
        stage = Stage()
        stage.read(api_key("a", "h1", 1))
        skipped = apply(stage.base, changes(api_key("b", "h2", 2)), LATER)
        stage.base = apply(skipped, changes(api_key("c", "h3", 3)), LATER)
        assert stage.look().touched == {"api_keys": frozenset({"b", "c"})}
        assert stage.served.table(ApiKey) is stage.base.table(ApiKey)

    def test_the_empty_snapshot(self) -> None:
        stage = Stage()
        assert stage.look() is START
        assert stage.served.apply_seq == 0


class TestReferences:
    def test_the_secret_is_served_and_the_rest_untouched(self) -> None:
        stage = Stage(b="sk-real")
        served = stage.read(provider_key("p", B, 1), provider_key("q", "sk-plain", 2), api_key("k", "h", 3))
        table, base = served.table(ProviderKey), stage.base.table(ProviderKey)
        assert table.by_id["p"].value.api_key.reveal() == "sk-real"
        assert (table.by_id["p"].raw, table.by_id["p"].revision) == (base.by_id["p"].raw, 1)
        assert table.by_id["q"] is base.by_id["q"]
        assert served.table(ApiKey) is stage.base.table(ApiKey)
        assert holders(stage.overlay, stage.base) == {("provider_keys", "p")}
        assert base.by_id["p"].value.api_key.reveal() == B, "the source's snapshot stays as it is"
        assert config_hash(served) == config_hash(stage.base)

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("$ENV://AISIX_SECRET_A", id="capitals"),
            pytest.param("\\u0024env://AISIX_SECRET_A", id="an escaped sign"),
            pytest.param("$env:\\/\\/AISIX_SECRET_A", id="escaped slashes"),
            pytest.param("$\\u0065nv://AISIX_SECRET_A", id="an escaped letter"),
        ],
    )
    def test_however_it_is_spelt(self, text: str) -> None:
        stage = Stage()
        stage.read(provider_key("p", text, 1))
        assert holders(stage.overlay, stage.base) == {("provider_keys", "p")}
        assert stage.served.served == 0

    def test_a_sealed_reference_is_none_the_less_one(self) -> None:
        sealed = {text: OLD.seal(text, context("provider_keys", text[:1], ("api_key",))) for text in ("plain", A)}
        stage = Stage()
        stage.read(provider_key("p", sealed["plain"], 1), provider_key("$", sealed[A], 2))
        assert list(stage.served.table(ProviderKey).by_id) == ["p"]
        assert list(stage.rejected) == ["$"]

    def test_what_leads_nowhere_is_out_of_service(self) -> None:
        stage = Stage()
        served = stage.read(api_key("a", A, 1), api_key("b", "h", 2))
        assert stage.keys == {"h": "b"}
        bad = stage.rejected["a"]
        assert (bad.failure, bad.message, bad.kind) == ("secret_unresolved", "leads nowhere", "api_keys")
        assert (bad.first_seen, bad.last_seen, bad.stale_since) == (NOON, NOON, None)
        assert (bad.revision, bad.create_revision, bad.raw) == (1, 1, api_key("a", A, 1).value)
        assert source_hash(served) == source_hash(stage.base)
        assert served.apply_seq == 1

        stage.look("a", now=LATER)
        assert (stage.rejected["a"].first_seen, stage.rejected["a"].last_seen) == (NOON, LATER)
        assert (stage.served.touched, stage.served.apply_seq) == ({}, 1)
        assert A not in repr(stage.served.rejected)

    def test_a_secret_comes_changes_and_goes(self) -> None:
        stage = Stage()
        stage.read(api_key("a", A, 1), api_key("b", "h", 2))
        for known, expected, seq in ((("one"), "one", 2), (("one"), "one", 2), (("two"), "two", 3)):
            stage.managers.known[A] = known
            stage.look("a")
            assert stage.keys == {"h": "b", hash_key(expected): "a"}
            assert stage.served.apply_seq == seq
            assert stage.rejected == {}
        before = stage.served
        assert before.touched == {"api_keys": frozenset({"a"})}
        stage.look("a")
        assert stage.served.table(ApiKey) is before.table(ApiKey), "the same secret changes nothing"
        assert stage.served.touched == {}
        stage.managers.known[A] = None
        stage.look("a", now=MUCH_LATER)
        assert stage.keys == {"h": "b"}
        assert (stage.served.apply_seq, stage.served.applied_at) == (4, MUCH_LATER)
        assert list(stage.rejected) == ["a"]

    def test_only_what_may_be_different_is_asked_for(self) -> None:
        stage = Stage(a="one")
        stage.read(api_key("a", A, 1), api_key("b", A, 2), api_key("c", "h", 3))
        assert sorted(stage.managers.asked) == ["a", "b"]
        stage.change(api_key("c", "i", 4, created=3))
        assert stage.managers.asked == []
        stage.look("b", "c", "nobody")
        assert stage.managers.asked == ["b"]
        stage.change(api_key("a", A, 5, created=1, team_id="t"))
        assert stage.managers.asked == ["a"]

    def test_when_the_last_reference_goes_the_rows_are_the_sources(self) -> None:
        stage = Stage()
        stage.read(api_key("a", A, 1), api_key("b", "h", 2))
        for event in (gone("api_keys/a", 3), api_key("a", A, 4), api_key("a", "i", 5, created=4)):
            stage.change(event)
        assert stage.served.table(ApiKey) is stage.base.table(ApiKey)
        assert stage.served.touched == {"api_keys": frozenset({"a"})}
        assert stage.rejected == {}
        assert not holders(stage.overlay, stage.base)
        assert stage.served.apply_seq == 2

    def test_a_mistake_of_who_is_asked_changes_nothing(self) -> None:
        stage = Stage(a="one")
        before = stage.read(api_key("a", A, 1))

        def mistaken(kind: Kind[Any], entry: Entry[Any]) -> Any:
            raise ValueError("a mistake")

        with pytest.raises(ValueError, match="a mistake"):
            stage.overlay.apply(stage.base, mistaken, {"api_keys": frozenset({"a"})}, LATER)
        assert stage.look().table(ApiKey) is before.table(ApiKey)

    def test_served_as_it_is(self) -> None:
        stage = Stage()
        stage.base = build(listing(api_key("a", A, 1)), START, NOON)
        served = stage.overlay.apply(stage.base, lambda kind, entry: None, {}, NOON)
        assert served.table(ApiKey).by_id["a"] is stage.base.table(ApiKey).by_id["a"]


class TestLastGoodValues:
    def test_a_stale_row_resolves_its_last_good_value(self) -> None:
        stage = Stage(a="one")
        stage.read(api_key("a", A, 1))
        stage.change(row("api_keys/a", BAD, 2, created=1))
        assert stage.keys == {hash_key("one"): "a"}
        assert (stage.rejected["a"].failure, stage.rejected["a"].stale_since) == ("schema_failed", LATER)

    def test_and_is_out_of_service_when_that_leads_nowhere(self) -> None:
        stage = Stage()
        stage.read(api_key("a", A, 1))
        stage.change(row("api_keys/a", BAD, 2, created=1))
        bad = stage.rejected["a"]
        assert stage.keys == {}
        assert (bad.failure, bad.raw, bad.stale_since) == ("schema_failed", BAD, None)
        assert "leads nowhere" in bad.message


class TestNames:
    def test_a_resolved_key_may_belong_to_an_older_row(self) -> None:
        stage = Stage(a="one")
        stage.read(api_key("a", A, 5), api_key("b", hash_key("one"), 3))
        assert stage.keys == {hash_key("one"): "b"}
        assert list(stage.served.table(ApiKey).shadowed()) == [("a", "b")]
        stage.managers.known[A] = "two"
        stage.look("a")
        assert stage.keys == {hash_key("one"): "b", hash_key("two"): "a"}
        assert stage.served.touched == {"api_keys": frozenset({"a"})}

    def test_two_references_to_one_secret(self) -> None:
        stage = Stage(a="one")
        stage.read(api_key("a", A, 5), api_key("b", A, 3))
        assert stage.keys == {hash_key("one"): "b"}
        stage.change(gone("api_keys/b", 6))
        assert stage.keys == {hash_key("one"): "a"}
        assert stage.served.touched == {"api_keys": frozenset({"a", "b"})}


class TestTouched:
    def test_a_consumer_that_missed_something_is_told(self) -> None:
        stage = Stage(a="one")
        stage.read(api_key("a", A, 1))
        stage.base = build(listing(api_key("a", A, 1)), START, LATER)
        stage.base = Snapshot(
            PREFIX, 1, stage.base.tables, stage.base.rejected, stage.base.apply_seq, stage.base.applied_at, None
        )
        assert stage.look().touched is None
        assert stage.look("a").touched == {}, "that was told already"

    def test_a_listing_that_tells_nothing_new(self) -> None:
        stage = Stage(a="one")
        rows = [api_key("a", A, 1), api_key("b", "h", 2)]
        before = stage.read(*rows)
        after = stage.read(*rows, now=LATER)
        assert (after.touched, after.apply_seq) == ({}, 1)
        assert after.table(ApiKey) is before.table(ApiKey)

    def test_a_new_spelling_is_no_new_content(self) -> None:
        stage = Stage(a="one")
        stage.read(api_key("a", A, 1))
        stage.change(row("api_keys/a", api_key("a", A, 1).value + b" ", 2, created=1))
        assert stage.served.apply_seq == 1
        assert stage.served.table(ApiKey).by_id["a"].revision == 2

    def test_a_secret_sealed_anew_is_none_either(self) -> None:
        def key(revision: int) -> KeyValue:
            sealed = OLD.seal("sk", context("provider_keys", "p", ("api_key",)))
            return KeyValue(f"{PREFIX}/provider_keys/p", provider_key("p", sealed, 2).value, 2, revision)

        stage = Stage(a="one")
        stage.read(api_key("a", A, 1), key(2))
        stage.change(key(3))
        assert stage.served.apply_seq == stage.base.apply_seq == 1
        assert stage.served.table(ProviderKey).by_id["p"].revision == 3


IDS = st.sampled_from("abcd")
TEXTS = [A, B, "h1", hash_key("one"), hash_key("two")]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), IDS, st.sampled_from(TEXTS)),
        st.tuples(st.just("bad"), IDS, st.just("")),
        st.tuples(st.just("delete"), IDS, st.just("")),
        st.tuples(st.just("list"), st.just(""), st.just("")),
        st.tuples(st.just("skip"), st.just(""), st.just("")),
        st.tuples(st.sampled_from([A, B]), st.just(""), st.sampled_from(["one", "two", None])),
    ),
    max_size=30,
)


def told(snapshot: Snapshot) -> Any:
    """All that two ways to one state must agree on."""
    table = snapshot.table(ApiKey)
    return (
        {id: (entry.value, entry.raw, entry.revision) for id, entry in table.by_id.items()},
        {name: entry.id for name, entry in table.by_name.items()},
        dict(table.contested),
        dict(table.unknown),
        {key: (bad.failure, bad.raw, bad.message, bad.stale_since) for key, bad in snapshot.rejected.items()},
    )


def naive(base: Snapshot, managers: Managers) -> Any:
    """The same from nothing, row by row."""
    return told(Overlay(PREFIX).apply(base, managers, {}, NOON)), by_hand(base, managers)


def by_hand(base: Snapshot, managers: Managers) -> dict[str, str]:
    """Who has which key, without any of the code under test but the draft of a table."""
    draft = TableDraft(API_KEYS, START.table(API_KEYS))
    for entry in base.table(API_KEYS).by_id.values():
        value = managers(API_KEYS, entry)
        if not isinstance(value, Rejected):
            draft.put(Entry(entry.id, value, entry.revision, entry.create_revision, entry.raw), ())
    return {name: entry.id for name, entry in draft.finish().by_name.items()}


@given(STEPS)
@settings(deadline=None)
def test_any_history_ends_in_what_is_made_from_nothing(steps: list[Any]) -> None:
    stage, revision, skip = Stage(), 1, False
    rows: dict[str, KeyValue] = {}
    stage.read()
    for what, id, text in steps:
        revision += 1
        before, key = stage.served, f"{PREFIX}/api_keys/{id}"
        again: list[str] = []
        if what in (A, B):
            stage.managers.known[what] = text
            again = [id for id, entry in stage.base.table(ApiKey).by_id.items() if entry.value.key_hash == what]
        elif what == "list":
            stage.base = build(Listing(tuple(rows.values()), revision), stage.base, NOON)
        elif what == "skip":
            skip = True
            continue
        elif what == "delete":
            rows.pop(key, None)
            stage.base = apply(stage.base, changes(gone(f"api_keys/{id}", revision)), NOON)
        else:
            created = rows[key].create_revision if key in rows else revision
            more: dict[str, object] = {"new": 1} if id == "b" else {}
            rows[key] = (
                api_key(id, text, revision, created, **more)
                if what == "put"
                else row(f"api_keys/{id}", BAD, revision, created)
            )
            stage.base = apply(stage.base, changes(rows[key]), NOON)
        if skip and what not in (A, B):
            skip = False
            continue
        stage.look(*again, now=NOON)
        assert holders(stage.overlay, stage.base) == {
            ("api_keys", id) for id, entry in stage.base.table(ApiKey).by_id.items() if entry.value.key_hash in (A, B)
        }
        assert (told(stage.served), stage.keys) == naive(stage.base, stage.managers)
        assert_touched(before, stage.served)
    stage.look(now=NOON)
    assert (told(stage.served), stage.keys) == naive(stage.base, stage.managers)


def assert_touched(before: Snapshot, after: Snapshot) -> None:
    """Whatever is not in `touched` is served as before; what is, is not; and `apply_seq` says whether it matters."""
    assert after.touched is not None
    ids = after.touched.get("api_keys", frozenset())
    old, new = before.table(ApiKey), after.table(ApiKey)
    for id in {*old.by_id, *new.by_id} - ids:
        assert old.by_id.get(id) is new.by_id.get(id)
    for name in {*old.by_name, *new.by_name}:
        pair = old.by_name.get(name), new.by_name.get(name)
        assert pair[0] is pair[1] or any(entry is not None and entry.id in ids for entry in pair)
    values = [{id: entry.value for id, entry in table.by_id.items()} for table in (old, new)]
    assert before.apply_seq <= after.apply_seq
    if before.apply_seq and values[0] != values[1]:
        assert after.apply_seq > before.apply_seq


MANY, SOME = 50_000, 1000


def test_fifty_thousand_keys_and_a_thousand_references() -> None:
    rows = tuple(
        api_key(f"id-{n}", f"$env://S{n}" if n < SOME else hash_key(str(n)), n + 1, team_id="t") for n in range(MANY)
    )
    base = build(Listing(rows, MANY), START, NOON)
    known = {f"$env://S{n}": Secret(str(n)) for n in range(SOME)}
    overlay = Overlay(PREFIX)

    def replace(kind: Kind[Any], entry: Entry[Any]) -> Any:
        return resolved(kind, entry.value, known.__getitem__)

    began = time.process_time()
    served = overlay.apply(base, replace, {}, NOON)
    assert time.process_time() - began < 1
    assert len(holders(overlay, base)) == SOME
    assert served.table(ApiKey).by_name[hash_key("7")].id == "id-7"

    changed, rotated = [], []
    for n in range(21):
        base = apply(base, changes(api_key(f"id-{MANY - n - 1}", f"new {n}", MANY + n + 1, created=1)), LATER)
        began = time.process_time()
        overlay.apply(base, replace, {}, LATER)
        changed.append(time.process_time() - began)
        known[f"$env://S{n}"] = Secret(f"rotated {n}")
        began = time.process_time()
        served = overlay.apply(base, replace, {"api_keys": frozenset({f"id-{n}"})}, LATER)
        rotated.append(time.process_time() - began)
        assert served.touched == {"api_keys": frozenset({f"id-{n}"})}
    assert sorted(changed)[10] < 0.005
    assert sorted(rotated)[10] < 0.005
    assert served.table(ApiKey).by_name["new 20"].id == f"id-{MANY - 21}"
    assert served.table(ApiKey).by_name[hash_key("rotated 20")].id == "id-20"


def test_each_of_many_rows_out_of_service_costs_itself_alone() -> None:
    """They come and go in portions: what one portion costs must not grow with all the others."""
    many = 5000
    rows = tuple(api_key(f"id-{n}", f"$env://S{n}", n + 1) for n in range(many))
    base, overlay, known = build(Listing(rows, many), START, NOON), Overlay(PREFIX), dict[str, Secret]()

    def replace(kind: Kind[Any], entry: Entry[Any]) -> Any:
        if entry.id in known:
            return resolved(kind, entry.value, lambda text: known[entry.id])
        return Rejected("secret_unresolved", "is being fetched")

    before = overlay.apply(base, replace, {}, NOON)
    assert len(before.rejected) == many
    for n in range(3):
        known[f"id-{n}"] = Secret(f"secret {n}")
        after = overlay.apply(base, replace, {"api_keys": frozenset({f"id-{n}"})}, LATER)
        shards = zip(before.rejected.shards(), after.rejected.shards(), strict=True)
        assert sum(one is not other for one, other in shards) == 1
        assert len(after.rejected) == many - n - 1
        before = after
