"""The index of names, fed with lists of events."""

from aisix_admin.names import NameIndex, NameReader
from aisix_common.store.types import Alive, Changes, Deleted, KeyValue, Listing, Lost

FIELDS = {"models": "display_name", "api_keys": "key_hash"}


def row(id: str, name: str, revision: int, kind: str = "models") -> KeyValue:
    return KeyValue(f"/aisix/{kind}/{id}", f'{{"{FIELDS[kind]}": "{name}"}}'.encode(), revision, revision)


def index(*events: object) -> NameIndex:
    made = NameIndex("/aisix", FIELDS, NameReader(FIELDS))
    for event in events:
        made.apply(event)  # type: ignore[arg-type]
    return made


def test_a_list_then_changes() -> None:
    names = index(
        Listing((row("1", "a", 2), row("2", "b", 3), row("1", "a", 4, "api_keys")), 5),
        Changes((row("2", "c", 6), Deleted("/aisix/models/1", 7), row("3", "c", 7)), 7),
    )
    assert names.of("models").holders("a") == frozenset()
    assert names.of("models").holders("b") == frozenset()
    assert names.of("models").holders("c") == {"2", "3"}
    assert names.of("api_keys").holders("a") == {"1"}
    assert names.of("models").complete_to == names.of("api_keys").complete_to == 7
    assert names.listed


def test_nothing_is_known_before_the_first_list() -> None:
    names = index(Lost("no link"), Alive(0))
    assert not names.listed


def test_silence_moves_the_revision_on() -> None:
    assert index(Listing((), 5), Alive(9)).of("models").complete_to == 9


def test_a_new_list_replaces_all_even_an_older_one() -> None:
    names = index(Listing((row("1", "a", 8),), 9), Listing((row("2", "b", 3),), 4))
    assert names.of("models").holders("a") == frozenset()
    assert names.of("models").holders("b") == {"2"}
    assert names.revision == names.of("models").complete_to == 4, "etcd was restored from an older backup"


def test_our_own_writes_come_in_before_the_watch_tells() -> None:
    names = index(Listing((row("1", "a", 2),), 5))
    names.of("models").put("1", "b", 8)
    names.apply(Changes((row("1", "older", 6),), 6))
    assert names.of("models").holders("b") == {"1"}
    assert names.of("models").holders("older") == frozenset()
    names.of("models").delete("1", 7)
    assert names.of("models").holders("b") == {"1"}, "news older than what is known"


def test_rows_without_a_name_and_foreign_keys() -> None:
    rows = (
        KeyValue("/aisix/models/1", b"not json", 1, 1),
        KeyValue("/aisix/models/2", b"[1]", 1, 1),
        KeyValue("/aisix/models/3", b'{"display_name": 5}', 1, 1),
        KeyValue("/aisix/models/4", b"\xff", 1, 1),
        KeyValue("/aisix/guardrails/5", b'{"name": "a"}', 1, 1),
        KeyValue("/aisix/models", b"{}", 1, 1),
        KeyValue("/aisix/models/", b"{}", 1, 1),
        KeyValue("/aisix-other/models/6", b'{"display_name": "a"}', 1, 1),
        row("with/slash", "a", 1),
    )
    assert index(Listing(rows, 1)).of("models").holders("a") == {"with/slash"}
