"""The index of rows, fed with lists of events and held against a model that keeps every row."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aisix_admin.facts import Facts, Pointed
from aisix_admin.index import EXT, RESOURCES, ResourceIndex
from aisix_common.resources import ALL_KINDS, KINDS
from aisix_common.store.types import Alive, Changes, Deleted, KeyValue, Listing, Lost, WatchEvent

ROUTER = {"display_name": "r", "routing": {"targets": [{"model": "a"}, {"model": "b"}, {"model": "a"}]}}
DIRECT = {"display_name": "d", "provider": "openai", "model_name": "m", "provider_key_id": "pk"}
SETTINGS = "mcp_auth_settings"


def row(id: str, name: str, revision: int, kind: str = "models") -> KeyValue:
    field = {"models": "display_name", "api_keys": "key_hash"}[kind]
    return KeyValue(f"/aisix/{kind}/{id}", json.dumps({field: name}).encode(), revision, revision)


def index(*events: WatchEvent) -> ResourceIndex:
    made = ResourceIndex("/aisix", KINDS)
    for event in events:
        made.apply(event)
    return made


def test_a_list_then_changes() -> None:
    known = index(
        Listing((row("1", "a", 2), row("2", "b", 3), row("1", "a", 4, "api_keys")), 5),
        Changes((row("2", "c", 6), Deleted("/aisix/models/1", 7), row("3", "c", 7)), 7),
    )
    assert known.holders("models", "a") == known.holders("models", "b") == frozenset()
    assert known.holders("models", "c") == {"2", "3"}
    assert known.holders("api_keys", "a") == {"1"}
    assert known.revision == 7 and known.listed
    assert (known.size("models"), known.size("api_keys"), known.size("guardrails")) == (2, 1, 0)
    assert known.get("models", "2") == Facts("c")
    assert known.get("models", "1") is None
    assert (known.revision_of("models", "2"), known.revision_of("models", "1")) == (6, 0)


def test_nothing_is_known_before_the_first_list() -> None:
    known = index(Lost("no link"), Alive(0))
    assert not known.listed and known.revision == 0


def test_silence_moves_the_revision_on_and_never_back() -> None:
    assert index(Listing((), 5), Alive(9)).revision == 9
    assert index(Listing((), 5), Alive(3)).revision == 5


def test_a_new_list_replaces_all_even_an_older_one() -> None:
    known = index(Listing((row("1", "a", 8),), 9), Listing((row("2", "b", 3),), 4))
    assert known.holders("models", "a") == frozenset()
    assert known.holders("models", "b") == {"2"}
    assert known.sorted("models") == [("b", "2")]
    assert known.revision == 4, "etcd was restored from an older backup"
    assert known.listings == 2


def test_our_own_writes_come_in_before_the_watch_tells() -> None:
    known = index(Listing((row("1", "a", 2),), 5))
    known.put("models", "1", Facts("b"), 8)
    known.apply(Changes((row("1", "older", 6),), 6))
    assert known.holders("models", "b") == {"1"}
    assert known.holders("models", "older") == frozenset()
    known.drop("models", "1", 7)
    assert known.holders("models", "b") == {"1"}, "news older than what is known"
    known.apply(Changes((Deleted("/aisix/models/1", 9),), 9))
    assert known.holders("models", "b") == frozenset()
    known.drop("models", "1", 10)


def test_the_same_again_costs_no_reordering() -> None:
    known = index(Listing((row("1", "a", 2),), 5))
    before = known.sorted("models")
    known.put("models", "1", Facts("a"), 8)
    assert known.sorted("models") is before and known.revision_of("models", "1") == 8


def test_rows_without_a_name_and_foreign_keys() -> None:
    rows = (
        KeyValue("/aisix/models/1", b"not json", 1, 1),
        KeyValue("/aisix/models/2", b"[1]", 1, 1),
        KeyValue("/aisix/models/3", b'{"display_name": 5}', 1, 1),
        KeyValue("/aisix/models/4", b"\xff", 1, 1),
        KeyValue("/aisix/models/5", b"[" * 100_000, 1, 1),
        KeyValue("/aisix/strangers/5", b'{"name": "a"}', 1, 1),
        KeyValue("/aisix/models", b"{}", 1, 1),
        KeyValue("/aisix/models/", b"{}", 1, 1),
        KeyValue("/aisix-other/models/6", b'{"display_name": "a"}', 1, 1),
        row("with/slash", "a", 1),
    )
    known = index(Listing(rows, 1))
    assert known.holders("models", "a") == {"with/slash"}
    assert known.sorted("models") == [*(("", str(n)) for n in range(1, 6)), ("a", "with/slash")]


def test_who_refers_to_what() -> None:
    rows = (
        KeyValue("/aisix/models/1", json.dumps(ROUTER).encode(), 1, 1),
        KeyValue("/aisix/models/2", json.dumps(DIRECT).encode(), 1, 1),
    )
    known = index(Listing(rows, 1))
    assert known.users(("models", "name", "a")) == known.users(("models", "name", "b")) == {("models", "1")}
    assert known.users(("provider_keys", "id", "pk")) == {("models", "2")}
    changed = {**ROUTER, "routing": {"targets": [{"model": "b"}]}}
    known.apply(Changes((KeyValue("/aisix/models/1", json.dumps(changed).encode(), 1, 2),), 2))
    assert known.users(("models", "name", "a")) == frozenset()
    assert known.users(("models", "name", "b")) == {("models", "1")}
    known.drop("models", "1", 3)
    assert known.users(("models", "name", "b")) == frozenset()


def test_what_is_returned_does_not_change_later() -> None:
    known = index(Listing((row("1", "a", 1),), 1))
    holders = known.holders("models", "a")
    known.put("models", "2", Facts("a"), 2)
    assert holders == {"1"}


KIND = st.sampled_from(["models", "api_keys"])
ID = st.sampled_from("123")
POINTED: st.SearchStrategy[Pointed] = st.tuples(KIND, st.sampled_from(["id", "name"]), st.sampled_from("ab1"))
FACTS = st.builds(
    Facts,
    st.sampled_from([None, "a", "b"]),
    st.sampled_from([None, "", "x"]),
    st.lists(POINTED, max_size=3, unique=True).map(tuple),
)
STEP = st.one_of(
    st.tuples(st.just("put"), KIND, ID, FACTS, st.integers(1, 12)),
    st.tuples(st.just("drop"), KIND, ID, st.none(), st.integers(1, 12)),
    st.tuples(st.just("changed"), KIND, ID, FACTS, st.integers(1, 12)),
    st.tuples(st.just("deleted"), KIND, ID, st.none(), st.integers(1, 12)),
    st.tuples(st.just("list"), KIND, ID, FACTS, st.integers(1, 12)),
    st.tuples(st.just("sort"), KIND, ID, st.none(), st.just(0)),
)


class Model:
    """Keeps every row and looks through all of them."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], tuple[Facts, int]] = {}

    def step(self, what: str, kind: str, id: str, facts: Facts | None, revision: int) -> None:
        if what == "list":
            self.rows = {}
        known = self.rows.get((kind, id), (None, 0))[1]
        if facts is None:
            if what != "sort" and known < revision:
                self.rows.pop((kind, id), None)
        elif known < revision:
            self.rows[kind, id] = (facts, revision)

    def sorted(self, kind: str) -> list[tuple[str, str]]:
        return sorted((facts.called or "", id) for (each, id), (facts, _) in self.rows.items() if each == kind)

    def holders(self, kind: str, name: str) -> set[str]:
        return {id for (each, id), (facts, _) in self.rows.items() if each == kind and facts.name == name}

    def users(self, pointed: Pointed) -> set[tuple[str, str]]:
        return {place for place, (facts, _) in self.rows.items() if pointed in facts.points}


def stepping(known: ResourceIndex, values: dict[bytes, Facts]) -> Callable[..., None]:
    """Feeds one step of the model to the index: rows' bytes stand for facts in `values`."""

    def step(what: str, kind: str, id: str, facts: Facts | None, revision: int) -> None:
        key = f"/aisix/{kind}/{id}"
        raw = str(len(values)).encode()
        if facts is not None:
            values[raw] = facts
        match what:
            case "put":
                assert facts is not None
                known.put(kind, id, facts, revision)
            case "drop":
                known.drop(kind, id, revision)
            case "changed":
                known.apply(Changes((KeyValue(key, raw, revision, revision),), revision))
            case "deleted":
                known.apply(Changes((Deleted(key, revision),), revision))
            case "list":
                known.apply(Listing((KeyValue(key, raw, revision, revision),), revision))
            case _:
                known.sorted(kind)

    return step


@given(st.lists(STEP, max_size=30))
def test_it_agrees_with_a_model_whatever_comes_in_which_order(steps: Sequence[tuple[Any, ...]]) -> None:
    values: dict[bytes, Facts] = {}
    known, model = ResourceIndex("/aisix", KINDS, lambda kind, raw: values[raw]), Model()
    feed = stepping(known, values)
    for each in steps:
        feed(*each)
        model.step(*each)
        for kind in ("models", "api_keys"):
            for name in "ab":
                assert known.holders(kind, name) == model.holders(kind, name)
            for by in ("id", "name"):
                for value in "ab1":
                    assert known.users((kind, by, value)) == model.users((kind, by, value))
            for id in "123":
                facts, revision = model.rows.get((kind, id), (None, 0))
                assert (known.get(kind, id), known.revision_of(kind, id)) == (facts, revision)
    for kind in ("models", "api_keys"):
        assert known.sorted(kind) == model.sorted(kind)
        assert known.size(kind) == len(model.sorted(kind))


# two roots


VAULT = {"manager": "vault", "name": "main", "uri": "https://vault.example", "auth": {"method": "token", "token": "t"}}
MAIN = ("secret_providers", "name", "vault/main")


def vault(id: str, revision: int, name: str = "main") -> KeyValue:
    return KeyValue(f"/ext/aisix/secret_providers/{id}", json.dumps({**VAULT, "name": name}).encode(), 1, revision)


def keyed(id: str, revision: int) -> KeyValue:
    value = {"display_name": id, "api_key": "$secret://vault/main/kv/key"}
    return KeyValue(f"/aisix/provider_keys/{id}", json.dumps(value).encode(), 1, revision)


def both(resources: WatchEvent, ext: WatchEvent) -> ResourceIndex:
    made = ResourceIndex("/aisix", ALL_KINDS, ext="/ext/aisix")
    made.apply(resources, RESOURCES)
    assert not made.listed, "half of it is not known"
    made.apply(ext, EXT)
    return made


def test_each_root_has_its_kinds_and_its_revision() -> None:
    known = both(Listing((keyed("k", 3), vault("v", 4)), 5), Listing((vault("v", 4), keyed("other", 3)), 9))
    assert known.listed and known.listings == 2
    assert known.names("secret_providers") == {"vault/main"} and known.names("provider_keys") == {"k"}
    assert known.users(MAIN) == {("provider_keys", "k")}
    assert (known.revision, known.delivered(), known.delivered(external=True)) == (5, 5, 9)
    known.apply(Alive(12), RESOURCES)
    known.apply(Changes((vault("w", 11, "second"),), 11), EXT)
    assert (known.delivered(), known.delivered(external=True)) == (12, 11)
    assert known.sorted("secret_providers") == [("main", "v"), ("second", "w")]


def test_a_list_of_one_root_leaves_the_other_as_it_is() -> None:
    known = both(Listing((keyed("k", 3),), 5), Listing((vault("v", 4),), 5))
    known.apply(Listing((), 3), EXT)
    assert known.names("secret_providers") == frozenset() and known.users(MAIN) == {("provider_keys", "k")}
    assert (known.delivered(), known.delivered(external=True)) == (5, 3)
    known.apply(Listing((), 4), RESOURCES)
    assert known.users(MAIN) == frozenset() and known.listings == 4


def test_after_a_restore_every_root_that_knew_more_is_waited_for() -> None:
    known = both(Listing((), 50), Listing((), 90))
    before = known.standing
    assert known.renewed(before, 90) and not known.renewed(before, 60)
    known.apply(Listing((), 60), RESOURCES)
    assert not known.renewed(before, 60), "the other root still knows of what is gone"
    known.apply(Listing((), 60), EXT)
    assert known.renewed(before, 60) and known.renewed(before, 40)


def test_without_an_ext_root_all_kinds_lie_under_the_one() -> None:
    known = ResourceIndex("/aisix", ALL_KINDS)
    known.apply(Listing((keyed("k", 3), KeyValue("/aisix/secret_providers/v", json.dumps(VAULT).encode(), 1, 3)), 5))
    assert known.listed and known.names("secret_providers") == {"vault/main"}
    assert known.delivered(external=True) == 5
