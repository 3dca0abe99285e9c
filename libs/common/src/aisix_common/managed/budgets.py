"""Budgets between proxies and agent: which caller keys are in use, and what the Cloud said of them (design 9).

    <run root>/budgets/asked/<shard>/<instance>   {"keys": ["<api key id>", ...]}         leased to the instance
    <run root>/budgets/decided/<shard>            {"keys": {"<api key id>": Decision}}    by the agent that leads

Both are cut into shards by the key's id, so that a key more or less rewrites little. An asking row lists the keys of
its shard that were used in the last ACTIVE_SECONDS.
"""

import zlib
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec

SHARDS: Final = 64
MOST_KEYS: Final = 10_000
"""Decisions that are kept, as the reference does (control-plane 6.5); the oldest go."""
FRESH_SECONDS: Final = 5.0
"""A key in use is asked for that often, and no more often."""
ACTIVE_SECONDS: Final = 15.0
"""A key counts as in use for that long after its last request."""

FailMode: TypeAlias = Literal["sticky", "open", "closed"]


class Denial(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a key may not spend more, as the Cloud words it. Amounts are texts with two decimals (data-plane 7.6)."""

    message: str = ""
    scope: str = ""
    scope_ref: str = ""
    limit_usd: str = ""
    spent_usd: str = ""
    remaining_usd: str = ""
    period: str = ""
    period_resets_at: str = ""
    retry_after_seconds: int | None = None


class Budget(msgspec.Struct, frozen=True, omit_defaults=True):
    """The numbers of a key's budget, for metrics. None: the Cloud did not say."""

    limit_usd: float | None = None
    spent_usd: float | None = None
    remaining_usd: float | None = None
    reset_seconds: float | None = None


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the Cloud said of a key, and when."""

    allow: bool
    at: int
    """Unix seconds at which the Cloud said so; it may be up to REFRESH_SECONDS older than the truth."""
    fail_mode: FailMode = "sticky"
    """What counts once this is too old (`managed.budget_stale_max_secs`): `open` allows, the others deny."""
    denial: Denial | None = None
    budget: Budget | None = None


REFRESH_SECONDS: Final = 30.0
"""A decision that stays the same is written anew that often, for the sake of `at`."""


class Asked(msgspec.Struct, frozen=True):
    """An asking row."""

    keys: tuple[str, ...]


class Decided(msgspec.Struct, frozen=True):
    """A row of decisions."""

    keys: Mapping[str, Decision]


def shard_of(api_key_id: str) -> int:
    """0 to SHARDS - 1; the same in every process and version."""
    return zlib.crc32(api_key_id.encode("utf-8", "surrogateescape")) % SHARDS


def asked_root(run_root: str) -> str:
    """Under which all asking rows lie, with its trailing slash."""
    return f"{run_root}/budgets/asked/"


def asked_key(run_root: str, shard: int, instance: str) -> str:
    """The key of an asking row."""
    return f"{asked_root(run_root)}{shard:02d}/{instance}"


def decided_root(run_root: str) -> str:
    """Under which all decisions lie, with its trailing slash."""
    return f"{run_root}/budgets/decided/"


def decided_key(run_root: str, shard: int) -> str:
    """The key of a row of decisions."""
    return f"{decided_root(run_root)}{shard:02d}"
