"""When a certificate is renewed, when a failed call is tried again, and when somebody must be told. Pure.

Time and chance come in as arguments.
"""

import enum
from datetime import datetime, timedelta
from typing import Final

from .identity import Identity

_LONGEST_WAIT: Final = 3600
"""Seconds."""


def renew_at(identity: Identity, chance: float) -> datetime:
    """When to renew: two thirds into the lifetime, up to a thirtieth of it earlier or later, so that gateways that were
    set up together do not ask together. `chance` in [0, 1)."""
    return identity.not_before + identity.lifetime * (2 / 3 + (chance - 0.5) / 15)


def retry_in(failures: int, chance: float, left: timedelta | None = None, wait: int | None = None) -> timedelta:
    """How long to wait after the `failures`th failure in a row (from 1): from 2 s, doubling to an hour, up to a half
    less. `wait` is what the Cloud asked for. With `left` until expiry, never longer than a tenth of that, but 10 s.

    A token is good for ten minutes after its first use (for the same key): six tries fall into the first two minutes.
    """
    seconds = min(2.0 ** min(failures, 20), _LONGEST_WAIT)
    if wait is not None:
        seconds = max(seconds, min(wait, _LONGEST_WAIT))
    else:
        seconds *= 1 - chance / 2
    if left is not None:
        seconds = min(seconds, max(left.total_seconds() / 10, 10.0))
    return timedelta(seconds=seconds)


class Alarm(enum.IntEnum):
    """How urgent it is that somebody looks after the certificate."""

    NONE = 0
    SOON = 1
    """Renewal should have happened: a quarter of the lifetime is left, at most 30 days."""
    URGENT = 2
    """A tenth of the lifetime is left, at most 7 days."""
    EXPIRED = 3


def alarm(identity: Identity, now: datetime) -> Alarm:
    """The level at `now`: for a metric, and for the log whenever it rises."""
    left = identity.not_after - now
    if left <= timedelta():
        return Alarm.EXPIRED
    if left <= min(identity.lifetime / 10, timedelta(days=7)):
        return Alarm.URGENT
    return Alarm.SOON if left <= min(identity.lifetime / 4, timedelta(days=30)) else Alarm.NONE
