"""What the Cloud said of a key, at every age, and rows that are not as they should be."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from aisix_common.logs import get_logger
from aisix_common.managed.budgets import REFRESH_SECONDS, Budget, Decided, Decision, Denial, decided_key, shard_of
from aisix_common.store.types import Deleted, KeyValue, Listing
from aisix_proxy.managed.decisions import ALLOWED, EXPIRED, UNREACHED, Decisions, Verdict

RUN = "/run/aisix"
NOW = 1_800_000_000.0
KEY = "key-1"
SHARD = shard_of(KEY)
DENIAL = Denial("used up", scope="team", limit_usd="10.00")


def row(keys: dict[str, Decision], shard: int = SHARD) -> KeyValue:
    return KeyValue(decided_key(RUN, shard), msgspec.json.encode(Decided(keys)), 1, 1)


def decision(allow: bool = True, age: float = 0, **more: Any) -> Decision:
    return Decision(allow, int(NOW - age), **more)


def made(stale_max_secs: float = 600) -> Decisions:
    return Decisions(RUN, stale_max_secs, get_logger("test"))


REFUSED = Verdict(False, DENIAL)


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (decision(), ALLOWED),
        (decision(age=599), ALLOWED),
        (decision(False, denial=DENIAL), REFUSED),
        (decision(False), Verdict(False)),
        (decision(False, age=599, denial=DENIAL, fail_mode="open"), REFUSED),
        (decision(age=600), EXPIRED),
        (decision(age=600, fail_mode="closed"), EXPIRED),
        (decision(age=600, fail_mode="sticky"), EXPIRED),
        (decision(age=600, fail_mode="open"), ALLOWED),
        (decision(False, age=600, denial=DENIAL), EXPIRED),
        (decision(False, age=600, denial=DENIAL, fail_mode="open"), ALLOWED),
        (decision(age=-30), ALLOWED),
    ],
)
def test_what_counts(said: Decision, verdict: Verdict) -> None:
    decisions = made()
    assert decisions.verdict(KEY, NOW) == UNREACHED
    assert decisions.take(row({KEY: said}), NOW) == (KEY,)
    assert decisions.verdict(KEY, NOW) == verdict
    assert decisions.take(row({KEY: said}), NOW) == (), "it is no news"


def test_a_clock_ahead_of_ours_does_not_keep_a_decision_for_longer() -> None:
    decisions = made()
    decisions.take(row({KEY: decision(age=-86_400)}), NOW)
    assert decisions.verdict(KEY, NOW + 599) == ALLOWED
    assert decisions.verdict(KEY, NOW + 600) == EXPIRED


def test_what_a_cloud_that_answers_said_is_never_too_old() -> None:
    decisions = made(stale_max_secs=0)
    decisions.take(row({KEY: decision(age=REFRESH_SECONDS)}), NOW)
    assert decisions.verdict(KEY, NOW) == ALLOWED
    assert decisions.counts(KEY, NOW)
    assert decisions.verdict(KEY, NOW + 10) == EXPIRED


OTHER = next(f"key-{n}" for n in range(2, 999) if shard_of(f"key-{n}") != SHARD)
SOUND = row({KEY: decision()})


@pytest.mark.parametrize(
    "bad",
    [
        KeyValue(SOUND.key, b"{", 1, 2),
        KeyValue(SOUND.key, b'{"keys": {"key-1": {"allow": "no", "at": 1}}}', 1, 2),
        KeyValue(SOUND.key, b"\xff" * 9, 1, 2),
        KeyValue(SOUND.key, b"[" * 100_000, 1, 2),
        KeyValue(f"{RUN}/budgets/decided/64", SOUND.value, 1, 2),
        KeyValue(f"{RUN}/budgets/decided/x", SOUND.value, 1, 2),
        KeyValue(f"{RUN}/budgets/decided/{SHARD:02d}/x", SOUND.value, 1, 2),
        Deleted(f"{RUN}/budgets/decided/", 2),
        row({KEY: decision(), OTHER: decision(False)}),
    ],
)
def test_garbage_changes_nothing_and_is_told_once(bad: KeyValue | Deleted) -> None:
    with capture_logs() as lines:
        decisions = made()
        decisions.take(SOUND, NOW)
        assert decisions.take(bad, NOW) == decisions.take(bad, NOW) == ()
    assert [line["log_level"] for line in lines] == ["error"]
    assert decisions.verdict(KEY, NOW) == ALLOWED
    assert decisions.verdict(OTHER, NOW) == UNREACHED


def test_what_no_row_names_any_more_counts_until_it_is_too_old() -> None:
    """An etcd that is empty suddenly, or an agent that starts anew, must not refuse everybody."""
    forgetful: tuple[Callable[[Decisions], object], ...] = (
        lambda decisions: decisions.absent(Listing((), 9), NOW),
        lambda decisions: decisions.take(Deleted(SOUND.key, 9), NOW),
        lambda decisions: decisions.take(row({}), NOW),
    )
    for forget in forgetful:
        decisions = made()
        decisions.take(row({KEY: decision(fail_mode="open", budget=Budget(1.0))}), NOW)
        forget(decisions)
        decisions.prune(NOW + 599)
        assert decisions.verdict(KEY, NOW + 599) == ALLOWED
        assert dict(decisions.budgets()) == {KEY: Budget(1.0)}
        decisions.prune(NOW + 600)
        assert decisions.verdict(KEY, NOW + 600) == UNREACHED
        assert dict(decisions.budgets()) == {}


def test_what_a_row_names_is_not_forgotten_however_old() -> None:
    decisions = made()
    decisions.take(row({KEY: decision(fail_mode="open")}), NOW)
    decisions.absent(Listing((SOUND,), 9), NOW + 9999)
    assert decisions.verdict(KEY, NOW + 9999) == ALLOWED


def test_it_is_bounded() -> None:
    decisions = made()
    shards: dict[int, dict[str, Decision]] = {}
    for n in range(21_000):
        shards.setdefault(shard_of(f"k{n}"), {})[f"k{n}"] = decision()
    for shard, keys in shards.items():
        decisions.take(row(keys, shard), NOW)
    assert len(dict(decisions.budgets())) == 20_000
