"""List and watch as one operation: everything under a prefix at one revision, then every change, in order, once.

What may happen meanwhile - etcd restarts, loses its leader, forgets our token, compacts what we have not seen, goes
silent, is restored from a backup or replaced - ends in one of two ways: the watch resumes after the last complete
revision, or, where that cannot be proven to be the same history, a new Listing replaces what was known. It stands on
`client.py` (the wire) and `history.py` (the decisions), and knows nothing of resources.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Final

from aisix_common.errors import Compacted, StoreDenied, StoreError, StoreRejected, StoreUnavailable

from . import etcd_pb2 as pb
from .backoff import Backoff
from .client import EtcdClient, WatchCall
from .history import History, HistoryBroken
from .messages import row, span
from .pages import is_last
from .types import KeyValue, Listing, Lost, WatchEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchTuning:
    """Times of a watch in seconds, and sizes of a listing in rows."""

    page: int = 5000
    """Rows per read of a listing: no single answer gets huge."""
    slice: int = 500
    """Rows turned into values before the loop gets its turn."""
    probe_interval: float = 10.0
    """How often etcd is asked for its progress, so that a dead link, or an etcd gone back in time, is noticed."""
    answer_timeout: float = 5.0
    """How long etcd may take to answer; a silent stream is given up after the interval plus this."""
    first_delay: float = 0.1
    longest_delay: float = 2.0


DEFAULT_TUNING: Final = WatchTuning()


async def list_and_watch(
    client: EtcdClient, prefix: str, tuning: WatchTuning = DEFAULT_TUNING
) -> AsyncGenerator[WatchEvent, None]:
    """Yield a Listing of all rows whose key starts with `prefix`, then Changes, for ever; a Listing again when needed.

    Lost tells of trouble and that it is being seen to, Alive that etcd answers. No StoreError comes out; it ends only
    by being closed: `async with contextlib.aclosing(list_and_watch(...)) as events`. Nothing is read ahead of the
    consumer, beyond what the connection buffers.
    """
    backoff = Backoff(tuning.first_delay, tuning.longest_delay)
    history: History | None = None
    while True:
        try:
            if history is None:
                listing, history = await _list(client, prefix, tuning)
                yield listing
                del listing  # the consumer may have let go of it: it must not lie in memory until the next one
            else:
                await _verify(client, prefix, history)
            stream = await _Stream.open(client, prefix, history.resume(), tuning)
            try:
                while True:
                    response = await stream.read()
                    event = history.accept(response, trusted=stream.trusted)
                    if history.doubted:
                        await _verify(client, prefix, history)
                    if event is not None:
                        backoff.reset()
                        yield event
                    await asyncio.sleep(0)  # a backlog of big messages must not keep the loop for itself
            finally:
                stream.close()
        except (Compacted, HistoryBroken):
            history = None  # no trouble to tell of: the new Listing says it all
        except StoreError as error:
            yield Lost(str(error))
        await asyncio.sleep(backoff.delay())


async def list_all(client: EtcdClient, prefix: str, tuning: WatchTuning = DEFAULT_TUNING) -> Listing:
    """All rows whose key starts with `prefix`, at one revision, read page by page. Raises StoreError."""
    return (await _list(client, prefix, tuning))[0]


async def _list(client: EtcdClient, prefix: str, tuning: WatchTuning) -> tuple[Listing, History]:
    start, end = span(prefix, prefix=True)
    request = pb.RangeRequest(key=start, range_end=end, limit=tuning.page)
    first = answer = await client.read(request, patient=False)
    rows: list[KeyValue] = []
    newest: pb.KeyValue | None = None
    while True:
        if answer.header.cluster_id != first.header.cluster_id:
            raise HistoryBroken("etcd was replaced while it was listed")
        for at in range(0, len(answer.kvs), tuning.slice):
            for kv in answer.kvs[at : at + tuning.slice]:
                rows.append(row(kv))
                if newest is None or kv.mod_revision > newest.mod_revision:
                    newest = kv
            await asyncio.sleep(0)
        if is_last(request, answer):
            break
        request = pb.RangeRequest(
            key=answer.kvs[-1].key + b"\0", range_end=end, limit=tuning.page, revision=first.header.revision
        )
        answer = await client.read(request, patient=False)
    return Listing(tuple(rows), first.header.revision), History(first.header, newest)


async def _verify(client: EtcdClient, prefix: str, history: History) -> None:
    """Before a watch is resumed: is this still the etcd we followed? Raises HistoryBroken when that is not certain.

    A restored etcd that was written to may have passed our revision by now, so its number proves nothing: the row we
    saw last must be there, as we saw it, at the revision we saw it at.
    """
    witness = history.witness
    if witness is None:
        start, end = span(prefix, prefix=True)
        answer = await client.read(pb.RangeRequest(key=start, range_end=end, limit=1, keys_only=True), patient=False)
        history.check_term(answer.header)
        return
    then = pb.RangeRequest(key=witness.key, revision=witness.mod_revision)
    try:
        answer = await client.read(then, patient=False)
    except Compacted:
        # Too old to be asked about; if it still stands unchanged, that must do.
        answer = await client.read(pb.RangeRequest(key=witness.key), patient=False)
    except StoreRejected:
        raise HistoryBroken(f"etcd went back behind revision {witness.mod_revision}")
    history.check_term(answer.header)
    if not any(map(witness.matches, answer.kvs)):
        raise HistoryBroken(f"etcd does not have what it had at revision {witness.mod_revision}")


class _Stream:
    """One watch stream with its probes."""

    def __init__(self, tuning: WatchTuning) -> None:
        self._tuning = tuning
        self._ended = asyncio.Event()
        self._call: WatchCall | None = None
        self._created = False
        self._client: EtcdClient | None = None
        self.trusted = False
        """Whether this member's answers to progress requests are in step with the events."""

    @classmethod
    async def open(cls, client: EtcdClient, prefix: str, revision: int, tuning: WatchTuning) -> "_Stream":
        """Ask for all changes from `revision` on. Raises StoreError."""
        start, end = span(prefix, prefix=True)
        create = pb.WatchCreateRequest(
            key=start, range_end=end, start_revision=revision, progress_notify=True, fragment=True
        )
        stream = cls(tuning)
        stream._client = client
        stream._call = await client.watch(stream._requests(pb.WatchRequest(create_request=create)))
        return stream

    async def read(self) -> pb.WatchResponse:
        """The next message. Raises StoreError, also when etcd is silent for too long."""
        assert self._call is not None
        if self._created:
            return await self._call.read(self._tuning.probe_interval + self._tuning.answer_timeout)
        response = await self._call.read(self._tuning.answer_timeout)
        if response.created:
            self._created = True
            self.trusted = await self._in_step(response.header.member_id)
        return response

    def close(self) -> None:
        """End the stream and its probes."""
        self._ended.set()
        if self._call is not None:
            self._call.close()

    async def _requests(self, create: pb.WatchRequest) -> AsyncIterator[pb.WatchRequest]:
        """gRPC pulls these from a task of its own, which ends with the stream."""
        yield create
        while not self._ended.is_set():
            yield pb.WatchRequest(progress_request=pb.WatchProgressRequest())
            try:
                async with asyncio.timeout(self._tuning.probe_interval):
                    await self._ended.wait()
            except TimeoutError:
                pass  # time for the next probe

    async def _in_step(self, member: int) -> bool:
        assert self._client is not None
        try:
            status = await self._client.status()
        except (StoreRejected, StoreDenied, StoreUnavailable):
            return False  # a façade without it: then the periodic notices of etcd do
        return status.member_id == member and progress_is_in_step(status.version)


def progress_is_in_step(version: str) -> bool:
    """Whether an etcd of `version` answers progress requests only after the events that came before.

    Fixed in 3.4.31 and 3.5.13: before, an answer could overtake events, and resuming after it would lose them.
    """
    numbers = tuple(int("".join(filter(str.isdigit, part.split("-")[0])) or 0) for part in version.split(".")[:3])
    return (3, 4, 31) <= numbers < (3, 5) or numbers >= (3, 5, 13)
