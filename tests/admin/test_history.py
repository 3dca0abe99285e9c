"""The versions of one resource."""

from typing import Any

import msgspec

from aisix_admin.history import BYTES_OF_ONE, FOUND, History, Version, appended, read_history, shown, with_found


def version(value: dict[str, Any] | None, **fields: Any) -> Version:
    return Version(0, "2026-01-02T00:00:00Z", "ops", "replaced", ("/a",), value, **fields)


def grown(*values: dict[str, Any] | None, most: int = 20) -> History:
    """A history into which `values` were written one after the other, at revisions 10, 20, ..."""
    history = History()
    for place, value in enumerate(values, 1):
        history = read_history(appended(history, version(value), most), 10 * place)
    return history


def test_versions_are_numbered_and_know_their_revisions() -> None:
    history = grown({"a": 1}, {"a": 2}, None)
    assert [(one.number, one.revision, one.value) for one in history.versions] == [
        (1, 10, {"a": 1}),
        (2, 20, {"a": 2}),
        (3, 30, None),
    ]
    assert history.last is not None and history.last.number == 3
    assert history.find(2) == history.versions[1]
    assert history.find(4) is None


def test_the_stored_newest_version_has_no_revision_of_its_own() -> None:
    raw = appended(grown({"a": 1}), version({"a": 2}, revision=99), 20)
    assert [one.revision for one in read_history(raw).versions] == [10, 0], "etcd gives it when it is written"


def test_old_versions_go_and_numbers_go_on() -> None:
    history = grown(*({"a": n} for n in range(7)), most=3)
    assert [one.number for one in history.versions] == [5, 6, 7]
    assert history.find(4) is None
    assert [one.number for one in grown({"a": 1}, {"a": 2}, most=1).versions] == [2]


def test_bytes_are_bounded_and_the_oldest_go_first() -> None:
    history = grown(*({"a": "x" * (BYTES_OF_ONE // 5)} for _ in range(8)))
    assert [one.number for one in history.versions] == [5, 6, 7, 8]
    assert len(msgspec.json.encode(history)) <= BYTES_OF_ONE + 100


def test_a_version_that_is_too_large_says_so_and_does_not_cost_the_others() -> None:
    history = grown({"a": 1}, {"a": "x" * BYTES_OF_ONE}, {"a": 3})
    assert [(one.number, one.value, one.dropped) for one in history.versions] == [
        (1, {"a": 1}, False),
        (2, None, True),
        (3, {"a": 3}, False),
    ]
    assert shown(history.versions[1])["dropped"] is True
    theirs = with_found(grown({"a": 1}), {"a": "x" * BYTES_OF_ONE}, 15)
    again = read_history(appended(theirs, version({"a": 3}), 20))
    assert [(one.number, one.dropped) for one in again.versions] == [(1, False), (2, True), (3, False)]


def test_what_others_wrote_is_a_version_of_its_own() -> None:
    history = with_found(grown({"a": 1}), {"a": 2}, 15)
    assert [(one.number, one.revision, one.action, one.by) for one in history.versions] == [
        (1, 10, "replaced", "ops"),
        (2, 15, FOUND, ""),
    ]
    assert with_found(history, {"a": 2}, 15) == history, "once"
    assert [one.number for one in read_history(appended(history, version({}), 20), 20).versions] == [1, 2, 3]
    assert with_found(grown({"a": 1}), {"a": 1}, 10) == grown({"a": 1}), "it is what we wrote"
    assert with_found(grown({"a": 1}), None, 15) == grown({"a": 1}), "nothing to keep of a row that cannot be read"


def test_what_shows_no_difference_is_no_version() -> None:
    """As when all secrets were encrypted anew: the newest version is of the row as it is now."""
    history = with_found(grown({"a": 1}, {"a": 2, "b": "***"}), {"b": "***", "a": 2}, 25)
    assert [(one.number, one.revision, one.action) for one in history.versions] == [
        (1, 10, "replaced"),
        (2, 25, "replaced"),
    ]
    assert [one.number for one in with_found(history, {"a": True, "b": "***"}, 30).versions] == [1, 2, 3]
    assert [one.number for one in with_found(grown({"a": 1}, None), {}, 25).versions] == [1, 2, 3], "it was deleted"


def test_the_first_that_is_known_may_be_of_others() -> None:
    (first,) = with_found(History(), {"a": 1}, 7).versions
    assert (first.number, first.revision, first.action, first.at) == (1, 7, FOUND, "")
    again = with_found(grown({"a": 1}, None), {"a": 2}, 25)
    assert [one.value for one in again.versions] == [{"a": 1}, None, {"a": 2}], "made anew after a deletion"


def test_a_row_that_cannot_be_read_is_an_empty_history() -> None:
    for raw in (None, b"", b"\xff", b"[]", b'{"versions": [1]}', b'{"versions": [{"number": "1"}]}', b"[" * 100_000):
        assert read_history(raw, 5) == History()
    assert read_history(b"{}", 5).last is None


def test_a_version_as_it_is_answered() -> None:
    (ours,) = grown({"a": 1}).versions
    assert shown(ours) == {
        "version": 1,
        "revision": 10,
        "at": "2026-01-02T00:00:00Z",
        "by": "ops",
        "action": "replaced",
        "changed": ["/a"],
        "value": {"a": 1},
    }
    theirs = shown(with_found(History(), {}, 7).versions[0])
    assert theirs["at"] is None and theirs["by"] is None
