"""What etcd says when it fails, as our errors."""

import grpc
import pytest

from aisix_common.errors import Compacted, StoreDenied, StoreError, StoreRejected, StoreUnavailable
from aisix_common.store.failures import never_sent, token_is_stale, token_may_be_stale, typed, watch_ended

Code = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        (Code.UNAVAILABLE, "failed to connect to all addresses", StoreUnavailable),
        (Code.UNAVAILABLE, "etcdserver: no leader", StoreUnavailable),
        (Code.UNAVAILABLE, "etcdserver: request timed out", StoreUnavailable),
        (Code.DEADLINE_EXCEEDED, "Deadline Exceeded", StoreUnavailable),
        (Code.UNKNOWN, "Stream removed", StoreUnavailable),
        (Code.INTERNAL, "RST_STREAM", StoreUnavailable),
        (Code.CANCELLED, "", StoreUnavailable),
        (Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests", StoreUnavailable),
        (Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", StoreRejected),
        (Code.INVALID_ARGUMENT, "etcdserver: request is too large", StoreRejected),
        (Code.NOT_FOUND, "etcdserver: requested lease not found", StoreRejected),
        (Code.UNIMPLEMENTED, "unknown method", StoreRejected),
        (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision", StoreRejected),
        (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted", Compacted),
        (Code.UNAUTHENTICATED, "etcdserver: invalid auth token", StoreDenied),
        (Code.PERMISSION_DENIED, "etcdserver: permission denied", StoreDenied),
        (Code.INVALID_ARGUMENT, "etcdserver: user name is empty", StoreDenied),
        (Code.INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password", StoreDenied),
        (Code.UNAVAILABLE, "Ssl handshake failed: CERTIFICATE_VERIFY_FAILED", StoreDenied),
    ],
)
def test_typed(code: grpc.StatusCode, details: str, expected: type[StoreError]) -> None:
    error = typed(code, details, "a:1", revision=7)
    assert type(error) is expected
    if isinstance(error, Compacted):
        assert error.compact_revision == 7
    else:
        assert "a:1" in str(error)


@pytest.mark.parametrize(
    ("reason", "compacted", "expected"),
    [
        ("", 9, Compacted),
        ("etcdserver: mvcc: required revision has been compacted", 0, Compacted),
        ("rpc error: code = PermissionDenied desc = etcdserver: permission denied", 0, StoreDenied),
        ("rpc error: code = InvalidArgument desc = etcdserver: user name is empty", 0, StoreDenied),
        ("rpc error: code = Unauthenticated desc = etcdserver: invalid auth token", 0, StoreDenied),
        ("etcdserver: no leader", 0, StoreUnavailable),
        ("", 0, StoreUnavailable),
    ],
)
def test_watch_ended(reason: str, compacted: int, expected: type[StoreError]) -> None:
    assert type(watch_ended(reason, compacted, "a:1")) is expected


def test_which_complaints_a_login_may_cure() -> None:
    assert token_is_stale("etcdserver: invalid auth token") and token_is_stale("etcdserver: user name is empty")
    assert not token_is_stale("etcdserver: permission denied")
    assert token_may_be_stale("etcdserver: permission denied")
    assert not token_may_be_stale("etcdserver: request is too large")


def test_only_what_never_left_us_counts_as_never_sent() -> None:
    assert never_sent(Code.UNAVAILABLE, "failed to connect to all addresses; last error: refused")
    assert never_sent(Code.UNAVAILABLE, "connections to all backends failing; last error: refused")
    assert not never_sent(Code.UNAVAILABLE, "Socket closed")
    assert not never_sent(Code.UNAVAILABLE, "etcdserver: no leader")
    assert not never_sent(Code.DEADLINE_EXCEEDED, "failed to connect to all addresses")
