"""Between the store's values (`types.py`) and etcd's messages (`etcd.proto`). Pure.

Keys are text for us and bytes for etcd: bytes that are not UTF-8 are read lossily, as the contract has it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from . import etcd_pb2 as pb
from .types import Compare, Compared, Comparison, Delete, Deleted, Get, KeyValue, Operation, Put, TransactionResult

_RESULTS: Final[Mapping[Comparison, pb.Compare.CompareResult]] = {
    Comparison.EQUAL: pb.Compare.EQUAL,
    Comparison.GREATER: pb.Compare.GREATER,
    Comparison.LESS: pb.Compare.LESS,
    Comparison.NOT_EQUAL: pb.Compare.NOT_EQUAL,
}


def after_prefix(prefix: bytes) -> bytes:
    """The end of the range of all keys that start with `prefix` (excluded): its last byte plus one, carried."""
    for index in range(len(prefix) - 1, -1, -1):
        if prefix[index] < 0xFF:
            return prefix[:index] + bytes([prefix[index] + 1])
    return b"\0"


def span(key: str, *, prefix: bool) -> tuple[bytes, bytes]:
    """etcd's `key` and `range_end` for one key, or for all that start with it. The empty prefix is everything."""
    start = key.encode()
    if not prefix:
        return start, b""
    return start or b"\0", after_prefix(start)


def text(key: bytes) -> str:
    """A key as text."""
    return key.decode("utf-8", "replace")


def row(kv: pb.KeyValue) -> KeyValue:
    """One row as a value."""
    return KeyValue(text(kv.key), kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)


def rows(kvs: Iterable[pb.KeyValue]) -> tuple[KeyValue, ...]:
    return tuple(map(row, kvs))


def change(event: pb.Event) -> KeyValue | Deleted:
    """What an event did to its row."""
    if event.type == pb.Event.DELETE:
        return Deleted(text(event.kv.key), event.kv.mod_revision)
    return row(event.kv)


def transaction(
    compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation]
) -> pb.TxnRequest:
    """A transaction as etcd takes it."""
    return pb.TxnRequest(
        compare=[_condition(one) for one in compare],
        success=[_operation(one) for one in success],
        failure=[_operation(one) for one in failure],
    )


def transaction_result(response: pb.TxnResponse) -> TransactionResult:
    """Which branch ran, and the rows its reads found: one tuple per operation, empty for writes."""
    reads = tuple(rows(answer.response_range.kvs) for answer in response.responses)
    return TransactionResult(response.succeeded, response.header.revision, reads)


def _condition(compare: Compare) -> pb.Compare:
    key, end = span(compare.key, prefix=compare.prefix)
    message = pb.Compare(key=key, range_end=end)
    message.result = _RESULTS[compare.how]
    if compare.target is Compared.VERSION:
        message.target, message.version = pb.Compare.VERSION, compare.number
    elif compare.target is Compared.CREATE:
        message.target, message.create_revision = pb.Compare.CREATE, compare.number
    else:
        message.target, message.mod_revision = pb.Compare.MOD, compare.number
    return message


def _operation(operation: Operation) -> pb.RequestOp:
    match operation:
        case Put(key, value, lease):
            return pb.RequestOp(request_put=pb.PutRequest(key=key.encode(), value=value, lease=lease))
        case Delete(key, prefix):
            start, end = span(key, prefix=prefix)
            return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=start, range_end=end))
        case Get(key, prefix):
            start, end = span(key, prefix=prefix)
            return pb.RequestOp(request_range=pb.RangeRequest(key=start, range_end=end))
