"""gRPC statuses of etcd as our errors, and what they say about trying again. Pure: texts in, errors out.

The texts are etcd's own (`rpctypes`); a watch is cancelled with the same texts, wrapped into its cancel reason.
"""

from typing import Final

import grpc

from aisix_common.errors import Compacted, StoreDenied, StoreError, StoreRejected, StoreUnavailable

TOKEN_REASONS: Final = (
    "invalid auth token",  # simple tokens die with an etcd restart, and when idle
    "user name is empty",  # the same, as a watch is told; or authentication was switched on under us
    "revision in header is old",  # roles changed since the login
)
_DENIED: Final = "permission denied"
"""A role that forbids it, or what a watch with a dead token is told."""
_DENIED_REASONS: Final = (_DENIED, "authentication failed", "Unauthenticated", "PermissionDenied")
_NEVER_SENT: Final = (
    "failed to connect to all addresses",
    "connections to all backends failing",
    "DNS resolution failed",
)
_TRY_AGAIN: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
    }
)


def token_is_stale(details: str) -> bool:
    """Whether etcd says that it does not know our token (any more)."""
    return any(reason in details for reason in TOKEN_REASONS)


def token_may_be_stale(details: str) -> bool:
    """Whether the token may be the reason: etcd says the same when the role does not allow it."""
    return _DENIED in details


def never_sent(code: grpc.StatusCode, details: str) -> bool:
    """Whether the request surely never left us, so that repeating even a write is safe."""
    return code is grpc.StatusCode.UNAVAILABLE and any(text in details for text in _NEVER_SENT)


def typed(code: grpc.StatusCode, details: str, endpoint: str, revision: int = 0) -> StoreError:
    """The error of ours for a gRPC status. `revision` is the one that was asked for, if any."""
    text = details.removeprefix("etcdserver: ").strip() or code.name
    if code is grpc.StatusCode.OUT_OF_RANGE and "compacted" in details:
        return Compacted(revision)
    if "CERTIFICATE_VERIFY_FAILED" in details or "Verification Check failed" in details:
        return StoreDenied(f"etcd at {endpoint} showed a certificate we do not trust: check etcd.tls ({text})")
    if code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED) or token_is_stale(details):
        return StoreDenied(f"etcd at {endpoint} refused us ({text}): check etcd.user, its password and its role")
    if "authentication failed" in details:
        return StoreDenied(f"etcd at {endpoint} refused user or password: check etcd.user and etcd.password_env")
    if code in _TRY_AGAIN or "too many requests" in details:
        return StoreUnavailable(f"etcd at {endpoint} is not available ({text})")
    if "database space exceeded" in details:
        return StoreRejected(f"etcd at {endpoint} is full ({text}): compact and defragment it, then disarm its alarm")
    return StoreRejected(f"etcd at {endpoint} refused the request ({text})")


def watch_ended(reason: str, compact_revision: int, endpoint: str) -> StoreError:
    """The error of ours for a watch that etcd cancelled: the stream stays open and silent after that."""
    if compact_revision or "compacted" in reason:
        return Compacted(compact_revision)
    if any(text in reason for text in (*TOKEN_REASONS, *_DENIED_REASONS)):
        return StoreDenied(
            f"etcd at {endpoint} refused the watch ({reason}): check etcd.user, its password and its role"
        )
    return StoreUnavailable(f"etcd at {endpoint} cancelled the watch ({reason or 'no reason given'})")
