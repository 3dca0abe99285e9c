"""The watcher's decisions as lists of inputs and outputs."""

import pytest

from aisix_common.store import etcd_pb2 as pb
from aisix_common.store.history import History, HistoryBroken
from aisix_common.store.types import Alive, Changes, Deleted


def _header(revision: int, *, cluster: int = 1, term: int = 5) -> pb.ResponseHeader:
    return pb.ResponseHeader(cluster_id=cluster, member_id=1, revision=revision, raft_term=term)


def _put(key: str, revision: int) -> pb.Event:
    return pb.Event(kv=pb.KeyValue(key=key.encode(), mod_revision=revision, create_revision=revision, version=1))


def _delete(key: str, revision: int) -> pb.Event:
    return pb.Event(type=pb.Event.DELETE, kv=pb.KeyValue(key=key.encode(), mod_revision=revision))


def _events(*events: pb.Event, fragment: bool = False, revision: int = 100) -> pb.WatchResponse:
    return pb.WatchResponse(header=_header(revision), events=events, fragment=fragment)


def _history(revision: int = 10) -> History:
    return History(_header(revision), None)


def test_events_are_handed_out_and_advance() -> None:
    history = _history()
    changes = history.accept(_events(_put("a", 11), _delete("b", 12)), trusted=False)
    assert isinstance(changes, Changes) and changes.revision == 12
    assert changes.events[1] == Deleted("b", 12)
    assert history.resume() == 13


def test_a_revision_cut_into_fragments_is_put_together() -> None:
    history = _history()
    first = history.accept(_events(_put("a", 11), _put("b", 12), fragment=True), trusted=False)
    assert isinstance(first, Changes) and first.revision == 11 and len(first.events) == 1
    assert history.accept(_events(_put("c", 12), fragment=True), trusted=False) is None
    rest = history.accept(_events(_put("d", 12), _put("e", 13)), trusted=False)
    assert isinstance(rest, Changes) and [event.key for event in rest.events] == ["b", "c", "d", "e"]


def test_half_a_revision_is_forgotten_when_the_stream_breaks() -> None:
    history = _history()
    assert history.accept(_events(_put("a", 11), fragment=True), trusted=False) is None
    assert history.resume() == 11
    again = history.accept(_events(_put("a", 11), _put("b", 11)), trusted=False)
    assert isinstance(again, Changes) and len(again.events) == 2


def test_progress_advances_only_where_it_can_be_trusted() -> None:
    requested = pb.WatchResponse(header=_header(50), watch_id=-1)
    notice = pb.WatchResponse(header=_header(60), watch_id=0)
    history = _history()
    assert history.accept(requested, trusted=False) == Alive(10)
    assert history.accept(requested, trusted=True) == Alive(50)
    assert history.accept(notice, trusted=False) == Alive(60)


def test_progress_between_fragments_says_nothing() -> None:
    history = _history()
    history.accept(_events(_put("a", 11), fragment=True), trusted=True)
    assert history.accept(pb.WatchResponse(header=_header(50), watch_id=-1), trusted=True) is None
    assert history.resume() == 11


def test_created_says_nothing_new() -> None:
    history = _history()
    assert history.accept(pb.WatchResponse(header=_header(50), created=True), trusted=True) is None
    assert history.resume() == 11


@pytest.mark.parametrize(
    "response",
    [
        pb.WatchResponse(header=_header(9), created=True),
        pb.WatchResponse(header=_header(11, cluster=2), events=[_put("a", 11)]),
        pb.WatchResponse(header=_header(20), events=[_put("a", 10)]),
    ],
    ids=["created below ours", "another cluster", "a revision written again"],
)
def test_another_history(response: pb.WatchResponse) -> None:
    with pytest.raises(HistoryBroken):
        _history().accept(response, trusted=True)


def test_progress_below_ours_is_a_doubt_that_a_read_settles() -> None:
    history = _history()
    assert history.accept(pb.WatchResponse(header=_header(9), watch_id=-1), trusted=True) is None
    assert history.doubted and history.revision == 10
    with pytest.raises(HistoryBroken):
        history.check_term(_header(9))
    history.check_term(_header(12))
    assert not history.doubted


def test_a_lower_raft_term_in_a_linearizable_answer_is_another_history() -> None:
    history = _history()
    history.check_term(_header(11, term=6))
    with pytest.raises(HistoryBroken):
        history.check_term(_header(12, term=5))


def test_the_witness_is_the_last_row_written() -> None:
    history = _history()
    written = _put("b", 12)
    history.accept(_events(_put("a", 11), written, _delete("c", 13)), trusted=False)
    assert history.witness is not None and history.witness.matches(written.kv)
    assert not history.witness.matches(_put("b", 11).kv)
