"""When the same target is tried again (data-plane 6.3, 6.4). Pure: the random number comes in as an argument."""

from typing import Final

import msgspec

from ..canonical.errors import UpstreamError, UpstreamTimeout

BASE_MS: Final = 250
CAP_MS: Final = 2000
JITTER_MS: Final = 250
HONOURED_RETRY_AFTER: Final = range(1, 6)
"""Seconds a provider may ask us to wait; anything else gets our own backoff."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often one target may be tried again, and whether a deadline that passed counts as a reason."""

    retries: int
    """Tries beyond the first."""
    after_timeouts: bool

    def allows(self, error: UpstreamError, retries_done: int) -> bool:
        """Whether to try again after `error`, having already retried `retries_done` times. A 4xx (429 too) never is."""
        if retries_done >= self.retries or not error.retryable:
            return False
        return self.after_timeouts or not isinstance(error, UpstreamTimeout)


def retry_policy(explicit: int | None, default: int, *, more_targets: bool = False) -> RetryPolicy:
    """The policy of one target: `explicit` is `target.retries`, `default` the deployment's `upstream.retries`.

    Only a number that somebody chose for this target covers timeouts: a deadline that passed may have cost money.
    With `more_targets` to fall back to, an unset number means none.
    """
    if explicit is not None:
        return RetryPolicy(explicit, after_timeouts=True)
    return RetryPolicy(0 if more_targets else default, after_timeouts=False)


def backoff(retry: int, random: float, retry_after: int | None = None) -> float:
    """Seconds to wait before retry number `retry` (1 is the first). `random` in [0, 1) becomes the jitter."""
    jitter = random * JITTER_MS
    if retry_after is not None and retry_after in HONOURED_RETRY_AFTER:
        return retry_after + jitter / 1000
    return (min(CAP_MS, BASE_MS << min(retry - 1, 8)) + jitter) / 1000
