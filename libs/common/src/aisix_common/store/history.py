"""Where a watch stands in etcd's history: which revision was delivered, and whether what comes next continues it.

Pure: watch responses in, events out. Raises HistoryBroken when etcd is no longer the one we followed: another cluster
id, or a revision or raft term below ours, which is what an etcd restored from an older snapshot shows.
"""

from dataclasses import dataclass
from typing import Final

from . import etcd_pb2 as pb
from .messages import change
from .types import Alive, Changes, Deleted, KeyValue

_REQUESTED_PROGRESS: Final = -1
"""The watch id of an answer to a progress request: it speaks for the stream, not for one watch."""


class HistoryBroken(Exception):
    """What we know does not continue into what etcd says now: list all again. News; never leaves this folder."""


@dataclass(frozen=True, slots=True)
class Witness:
    """A row as it was written at a revision we saw: an etcd with our history has it at that revision."""

    key: bytes
    create_revision: int
    mod_revision: int
    version: int
    value: bytes

    def matches(self, kv: pb.KeyValue) -> bool:
        return Witness(kv.key, kv.create_revision, kv.mod_revision, kv.version, kv.value) == self


class History:
    """What was delivered so far. `revision` is the last one that is complete."""

    def __init__(self, header: pb.ResponseHeader, newest: pb.KeyValue | None) -> None:
        self.revision = header.revision
        self.doubted = False
        """Something does not fit: `check_term` with the answer of a linearizable read settles it."""
        self.witness: Witness | None = None
        self._cluster = header.cluster_id
        self._term = header.raft_term
        self._pieces: list[KeyValue | Deleted] = []
        if newest is not None:
            self._remember(newest)

    def resume(self) -> int:
        """The stream broke: forget half a revision. Returns the revision to watch from."""
        self._pieces.clear()
        return self.revision + 1

    def check(self, header: pb.ResponseHeader) -> None:
        """Raises HistoryBroken when `header`, of a new stream or a read, cannot come from the etcd we followed."""
        self._check_cluster(header)
        if header.revision < self.revision:
            raise HistoryBroken(f"etcd went back to revision {header.revision}, we have {self.revision}")

    def check_term(self, header: pb.ResponseHeader) -> None:
        """As `check`, for the answer of a linearizable read: only there a lower raft term proves a restore."""
        self.check(header)
        if header.raft_term < self._term:
            raise HistoryBroken(f"etcd was restored: raft term {header.raft_term}, we have seen {self._term}")
        self._term = header.raft_term
        self.doubted = False

    def _check_cluster(self, header: pb.ResponseHeader) -> None:
        if header.cluster_id != self._cluster:
            raise HistoryBroken("etcd was replaced: it has another cluster id")

    def accept(self, response: pb.WatchResponse, *, trusted: bool) -> Changes | Alive | None:
        """What a response means: Changes of whole revisions, Alive for a progress answer, None for nothing new.

        `trusted`: answers to progress requests of this member may advance the revision. Older etcds send them out of
        step with the events, so that a revision could be skipped (etcd-io/etcd 15220 and 17507).
        """
        self._check_cluster(response.header)
        if response.events:
            return self._events(response)
        if response.created:
            self.check(response.header)
            return None
        if response.header.revision < self.revision:
            # An etcd gone back in time, or an answer that later events overtook on the way: a read will tell.
            self.doubted = True
            return None
        if self._pieces:
            return None
        if response.watch_id != _REQUESTED_PROGRESS or trusted:
            self.revision = max(self.revision, response.header.revision)
        return Alive(self.revision)

    def _events(self, response: pb.WatchResponse) -> Changes | None:
        first = response.events[0].kv.mod_revision
        if first <= self.revision:
            raise HistoryBroken(f"etcd wrote revision {first} again, we have {self.revision}")
        self._pieces.extend(map(change, response.events))
        last = response.events[-1].kv
        if response.fragment:
            return self._complete(last.mod_revision)
        done, self._pieces = self._pieces, []
        self.revision = last.mod_revision
        self._remember_last(response)
        return Changes(done, self.revision)

    def _complete(self, open_revision: int) -> Changes | None:
        """More fragments follow: hand out what is before the revision that may be cut in two."""
        cut = len(self._pieces)
        while cut and self._pieces[cut - 1].mod_revision == open_revision:
            cut -= 1
        if not cut:
            return None
        done, self._pieces = self._pieces[:cut], self._pieces[cut:]
        self.revision = done[-1].mod_revision
        return Changes(done, self.revision)

    def _remember_last(self, response: pb.WatchResponse) -> None:
        for event in reversed(response.events):
            if event.type == pb.Event.PUT:
                self._remember(event.kv)
                return

    def _remember(self, kv: pb.KeyValue) -> None:
        self.witness = Witness(kv.key, kv.create_revision, kv.mod_revision, kv.version, kv.value)
