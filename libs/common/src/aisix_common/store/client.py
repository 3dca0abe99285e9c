"""The etcd client: reads, writes, transactions, leases and watch streams over gRPC, with deadlines and typed errors.

Every call ends within `EtcdOptions.request_timeout`. Reads are repeated once, on the next member. Writes are repeated
only when they surely never left us: otherwise the caller reads back what became of them. A token that etcd no longer
takes is renewed once per call. Everything raises the StoreError tree; nothing of gRPC is seen outside this folder.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, TypeAlias, TypeVar

import grpc
import grpc.aio

from aisix_common.errors import StoreDenied, StoreError, StoreRejected, StoreUnavailable

from . import etcd_pb2 as pb
from .channels import Link, Links
from .failures import never_sent, typed, watch_ended
from .login import Login, Token
from .messages import rows, span, transaction, transaction_result
from .options import EtcdOptions, etcd_options
from .types import Compare, KeyValue, Operation, RangeResult, Status, TransactionResult

__all__ = ["EtcdClient", "EtcdOptions", "WatchCall", "etcd_options"]


class _Message(Protocol):
    def SerializeToString(self) -> bytes: ...  # noqa: N802 - protobuf's name


_Reply = TypeVar("_Reply")
_Once: TypeAlias = Callable[[Link, grpc.aio.Metadata, float, bool], Awaitable[_Reply]]
"""One try of a call: on which member, with which metadata, for how many seconds, whether to wait for a connection."""


@dataclass(frozen=True, slots=True)
class _Method(Generic[_Reply]):
    """One unary method of etcd. `safe`: asking twice does no harm."""

    path: str
    reply: Any
    """The message class of the answer: its `FromString` is the deserializer."""
    safe: bool = False

    def parse(self, body: bytes) -> _Reply:
        parsed: _Reply = self.reply.FromString(body)
        return parsed


_RANGE: Final[_Method[pb.RangeResponse]] = _Method("/etcdserverpb.KV/Range", pb.RangeResponse, safe=True)
_PUT: Final[_Method[pb.PutResponse]] = _Method("/etcdserverpb.KV/Put", pb.PutResponse)
_DELETE: Final[_Method[pb.DeleteRangeResponse]] = _Method("/etcdserverpb.KV/DeleteRange", pb.DeleteRangeResponse)
_TXN: Final[_Method[pb.TxnResponse]] = _Method("/etcdserverpb.KV/Txn", pb.TxnResponse)
_COMPACT: Final[_Method[pb.CompactionResponse]] = _Method("/etcdserverpb.KV/Compact", pb.CompactionResponse)
_GRANT: Final[_Method[pb.LeaseGrantResponse]] = _Method("/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantResponse)
_REVOKE: Final[_Method[pb.LeaseRevokeResponse]] = _Method("/etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeResponse)
_TIME_TO_LIVE: Final[_Method[pb.LeaseTimeToLiveResponse]] = _Method(
    "/etcdserverpb.Lease/LeaseTimeToLive", pb.LeaseTimeToLiveResponse, safe=True
)
_STATUS: Final[_Method[pb.StatusResponse]] = _Method("/etcdserverpb.Maintenance/Status", pb.StatusResponse, safe=True)
_ALARM: Final[_Method[pb.AlarmResponse]] = _Method("/etcdserverpb.Maintenance/Alarm", pb.AlarmResponse, safe=True)
_AUTHENTICATE: Final = "/etcdserverpb.Auth/Authenticate"
_KEEP_ALIVE: Final = "/etcdserverpb.Lease/LeaseKeepAlive"
_WATCH: Final = "/etcdserverpb.Watch/Watch"
_NEEDS_LEADER: Final = ("hasleader", "true")
"""Without it a watch on a member that lost its leader stays open and silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Manner:
    """How a call is tried. `safe`: asking twice does no harm; `patient`: wait for a connection while there is time."""

    safe: bool
    patient: bool = True
    login: bool = True
    revision: int = 0


def _encode(message: _Message) -> bytes:
    return message.SerializeToString()


class EtcdClient:
    """A client of one etcd cluster. Cheap to make, connects at the first call; belongs to the loop of that call.

    Raises ConfigurationError when the endpoints of `options` make no sense.
    """

    def __init__(self, options: EtcdOptions) -> None:
        self._options = options
        self._links = Links(options)
        self._login = Login(self._authenticate if options.user and options.password is not None else None)

    @property
    def endpoints(self) -> str:
        """The members, as people write them, for logs."""
        return self._links.names

    async def get(self, key: str) -> KeyValue | None:
        """The row of `key` as it is now, or None."""
        answer = await self.read(pb.RangeRequest(key=key.encode()))
        found = rows(answer.kvs)
        return found[0] if found else None

    async def range(self, prefix: str, *, limit: int = 0, revision: int = 0) -> RangeResult:
        """All rows whose key starts with `prefix`, in key order; at most `limit` (0: all), as of `revision` (0: now).

        Raises Compacted when that revision is gone. For very many rows, `watch.list_all` reads page by page.
        """
        key, end = span(prefix, prefix=True)
        answer = await self.read(pb.RangeRequest(key=key, range_end=end, limit=limit, revision=revision))
        return RangeResult(rows(answer.kvs), answer.header.revision, answer.more, answer.count)

    async def page(
        self, prefix: str, *, after: str = "", limit: int, start: str = "", revision: int = 0
    ) -> RangeResult:
        """At most `limit` rows under `prefix` in key order: behind the key `after`, or from the key `start` on.

        `revision`: as of then (0: now). Raises Compacted when that is gone.
        """
        first, end = span(prefix, prefix=True)
        key = after.encode() + b"\0" if after else start.encode() or first
        answer = await self.read(pb.RangeRequest(key=key, range_end=end, limit=limit, revision=revision))
        return RangeResult(rows(answer.kvs), answer.header.revision, answer.more, answer.count)

    async def together(self, keys: Sequence[str]) -> tuple[tuple[KeyValue | None, ...], int]:
        """The rows of `keys` (None where there is none), asked for at once, and the lowest revision any was read at.

        Not a transaction of reads: an etcd before 3.5.5 panics when the caller of one goes away in the middle of it.
        """
        answers = await asyncio.gather(*(self.read(pb.RangeRequest(key=key.encode())) for key in keys))
        found = tuple(next(iter(rows(answer.kvs)), None) for answer in answers)
        return found, min((answer.header.revision for answer in answers), default=0)

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        """Write one row, bound to `lease` unless that is 0. Returns the revision it was written at."""
        answer = await self._call(_PUT, pb.PutRequest(key=key.encode(), value=value, lease=lease))
        return answer.header.revision

    async def delete(self, key: str, *, prefix: bool = False) -> int:
        """Delete one row, or all that start with `key`. Returns how many there were."""
        start, end = span(key, prefix=prefix)
        answer = await self._call(_DELETE, pb.DeleteRangeRequest(key=start, range_end=end))
        return answer.deleted

    async def txn(
        self, compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation] = ()
    ) -> TransactionResult:
        """Do all of `success` if every comparison holds, else all of `failure`, at one revision.

        StoreUnavailable leaves open whether it happened: read back, by an id chosen before.
        """
        return transaction_result(await self._call(_TXN, transaction(compare, success, failure)))

    async def compact(self, revision: int) -> None:
        """Forget all history before `revision`."""
        await self._call(_COMPACT, pb.CompactionRequest(revision=revision))

    async def grant(self, ttl: int) -> int:
        """A new lease of `ttl` seconds; returns its id. `LeaseKeeper` keeps one alive."""
        answer = await self._call(_GRANT, pb.LeaseGrantRequest(TTL=ttl))
        if answer.error:
            raise StoreRejected(f"etcd granted no lease: {answer.error}")
        return answer.ID

    async def revoke(self, lease: int) -> None:
        """End a lease; its rows go at once. Raises StoreRejected when it is gone already."""
        await self._call(_REVOKE, pb.LeaseRevokeRequest(ID=lease))

    async def time_to_live(self, lease: int) -> int:
        """Seconds that are left of a lease; -1 when it is gone."""
        return (await self._call(_TIME_TO_LIVE, pb.LeaseTimeToLiveRequest(ID=lease))).TTL

    async def keep_alive(self, lease: int) -> int:
        """Renew a lease once. Returns its seconds to live, 0 when it is gone."""
        request = pb.LeaseKeepAliveRequest(ID=lease)

        async def once(link: Link, metadata: grpc.aio.Metadata, timeout: float, wait: bool) -> int:
            call = link.channel.stream_stream(_KEEP_ALIVE, _encode, pb.LeaseKeepAliveResponse.FromString)(
                metadata=metadata, timeout=timeout, wait_for_ready=wait
            )
            try:
                await call.write(request)
                answer = await call.read()
            finally:
                call.cancel()
            if isinstance(answer, pb.LeaseKeepAliveResponse):
                return answer.TTL
            raise StoreUnavailable(f"etcd at {link.name} ended the lease's stream")

        return await self._attempt(once, _Manner(safe=True))

    async def status(self) -> Status:
        """What the member in use says about itself."""
        answer = await self._call(_STATUS, pb.StatusRequest())
        return Status(
            version=answer.version,
            revision=answer.header.revision,
            cluster_id=answer.header.cluster_id,
            member_id=answer.header.member_id,
            leader=answer.leader,
            raft_term=answer.raftTerm,
            db_size=answer.dbSize,
            db_size_in_use=answer.dbSizeInUse,
            errors=tuple(answer.errors),
        )

    async def alarms(self) -> tuple[str, ...]:
        """The alarms that are on in the cluster: `NOSPACE`, `CORRUPT`."""
        answer = await self._call(_ALARM, pb.AlarmRequest(action=pb.AlarmRequest.GET, alarm=pb.NONE))
        return tuple(sorted({pb.AlarmType.Name(member.alarm) for member in answer.alarms}))

    async def read(self, request: pb.RangeRequest, *, patient: bool = True) -> pb.RangeResponse:
        """A range read in etcd's own messages, for this folder: pages are cut by bytes that need not be text.

        Without `patient` it fails as soon as no member can be connected, for callers that have a back-off of their own.
        """
        return await self._call(_RANGE, request, _Manner(safe=True, patient=patient, revision=request.revision))

    async def watch(self, requests: AsyncIterator[pb.WatchRequest]) -> "WatchCall":
        """Open a watch stream that sends `requests` as they come. For this folder: others use `list_and_watch`.

        Nothing is known of the connection yet when this returns: the first `read` tells.
        """
        link = self._links.current()
        token = await self._login.token()
        call = link.channel.stream_stream(_WATCH, _encode, pb.WatchResponse.FromString)(
            requests, metadata=_metadata((_NEEDS_LEADER, *token.metadata))
        )
        return WatchCall(call, link, self._links, self._login, token)

    async def aclose(self) -> None:
        """Close the connections. Calls in flight end with an error."""
        await self._links.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _call(self, method: _Method[_Reply], request: _Message, manner: "_Manner | None" = None) -> _Reply:
        async def once(link: Link, metadata: grpc.aio.Metadata, timeout: float, wait: bool) -> _Reply:
            unary = link.channel.unary_unary(method.path, _encode, method.parse)
            reply: _Reply = await unary(request, metadata=metadata, timeout=timeout, wait_for_ready=wait)
            return reply

        return await self._attempt(once, manner or _Manner(safe=method.safe))

    async def _attempt(self, once: _Once[_Reply], manner: "_Manner") -> _Reply:
        """Run `once` until it answers, fails for good, or the request's time is over."""
        now = asyncio.get_running_loop().time
        limit = self._options.request_timeout
        deadline = now() + limit
        renewed = repeated = False
        unsent: list[StoreError] = []
        while True:
            link = self._links.current()
            token = await self._login.token() if manner.login else None
            left = max(deadline - now(), 0.001)
            # A black-holed read must leave time for its second try; a write has one try and all the time.
            timeout = min(left, limit / 2) if manner.safe else left
            wait = manner.patient and (repeated or len(unsent) >= len(self._links))
            try:
                return await once(link, _metadata(token.metadata if token else ()), timeout, wait)
            except grpc.aio.AioRpcError as failure:
                code, details = failure.code(), failure.details() or ""
                error = typed(code, details, link.name, manner.revision)
            except asyncio.CancelledError:
                _mind_closing(self._links)
                raise
            if token is not None and not renewed and await self._login.cured(token, details):
                renewed = True
                continue
            if isinstance(error, StoreDenied):
                self._links.denied(link)
            if isinstance(error, StoreUnavailable):
                self._links.failed(link)
                if now() < deadline:
                    if never_sent(code, details) and len(unsent) < len(self._links) - (not manner.patient):
                        unsent.append(error)
                        continue
                    if manner.safe and not repeated:
                        repeated = True
                        continue
                if unsent and code is grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise unsent[-1]  # "connection refused" tells more than "too late"
            raise error

    async def _authenticate(self) -> str | None:
        """A new token, or None when etcd has authentication switched off (it may be switched on later)."""
        assert self._options.user is not None and self._options.password is not None
        request = pb.AuthenticateRequest(name=self._options.user, password=self._options.password.reveal())

        async def once(link: Link, metadata: grpc.aio.Metadata, timeout: float, wait: bool) -> str:
            unary = link.channel.unary_unary(_AUTHENTICATE, _encode, pb.AuthenticateResponse.FromString)
            return (await unary(request, metadata=metadata, timeout=timeout, wait_for_ready=wait)).token

        try:
            return await self._attempt(once, _Manner(safe=True, login=False))
        except StoreRejected as refused:
            if "authentication is not enabled" in str(refused):
                return None
            raise


class WatchCall:
    """An open watch stream. `close` it, whatever happened."""

    def __init__(self, call: Any, link: Link, links: Links, login: Login, token: Token) -> None:
        self._call = call
        self._link = link
        self._links = links
        self._login = login
        self._token = token

    async def read(self, timeout: float) -> pb.WatchResponse:
        """The next message. Raises Compacted, StoreDenied or StoreUnavailable, the latter also after `timeout` seconds.

        A cancelled watch raises, too: etcd leaves the stream open in that case, and silent for ever.
        """
        try:
            async with asyncio.timeout(timeout):
                message = await self._call.read()
        except TimeoutError:
            self._links.failed(self._link)
            raise StoreUnavailable(f"etcd at {self._link.name} was silent for {timeout:g} seconds")
        except grpc.aio.AioRpcError as failure:
            raise await self._judged(typed(failure.code(), failure.details() or "", self._link.name))
        except asyncio.CancelledError:
            _mind_closing(self._links)
            raise
        if not isinstance(message, pb.WatchResponse):
            raise await self._judged(StoreUnavailable(f"etcd at {self._link.name} ended the watch"))
        if message.canceled:
            raise await self._judged(watch_ended(message.cancel_reason, message.compact_revision, self._link.name))
        return message

    def close(self) -> None:
        """End the stream at once."""
        self._call.cancel()

    async def _judged(self, error: StoreError) -> StoreError:
        """The same error, after doing what the next attempt needs: another member, or another token."""
        if isinstance(error, StoreDenied):
            await self._login.cured(self._token, str(error))
            self._links.denied(self._link)
        elif isinstance(error, StoreUnavailable):
            self._links.failed(self._link)
        return error


def _mind_closing(links: Links) -> None:
    """gRPC cancels who waits on a channel that is closed: it must not look as if the waiting task was cancelled."""
    task = asyncio.current_task()
    if links.closed and (task is None or not task.cancelling()):
        raise StoreUnavailable("the etcd client was closed during the call")


def _metadata(pairs: Sequence[tuple[str, str]]) -> grpc.aio.Metadata:
    return grpc.aio.Metadata(*pairs)
