"""Which rows of decisions are written, and when."""

import msgspec
import pytest

from aisix_cloud_agent.budgets.rows import KEEP_SECONDS, NUMBERS_BYTES, DecidedRows, same
from aisix_common.managed.budgets import (
    REFRESH_SECONDS,
    SHARDS,
    Budget,
    Decided,
    Decision,
    Denial,
    decided_key,
    shard_of,
)
from aisix_common.store.types import Delete, KeyValue, Put

KEY = "key-1"
SHARD = shard_of(KEY)
BIG = 1 << 30


def decision(at: int = 100, *, allow: bool = True, spent: float = 1.0, fail_mode: str = "sticky") -> Decision:
    budget = Budget(10.0, spent, 10.0 - spent, 1000.0 - at)
    return Decision(allow, at, "open" if fail_mode == "open" else "sticky", None, budget)


def write(rows: DecidedRows, now: float, most: int = BIG) -> list[Put | Delete]:
    """All that is due is committed."""
    done: list[Put | Delete] = []
    for operations, written in rows.transactions("/run", rows.due(now), most):
        rows.written(written, now)
        done += operations
    return done


def content(operation: Put | Delete) -> dict[str, Decision]:
    assert isinstance(operation, Put)
    return dict(msgspec.json.decode(operation.value, type=Decided).keys)


def test_a_new_key_is_due_at_once_and_its_row_has_all_of_the_shard() -> None:
    rows = DecidedRows(set())
    assert rows.due(0.0) == []
    assert rows.next_due() == float("inf")
    rows.put(KEY, decision(), 0.0)
    assert rows.due(0.0) == [SHARD]
    (put,) = write(rows, 0.0)
    assert (put.key, content(put)) == (decided_key("/run", SHARD), {KEY: decision()})
    assert rows.due(0.0) == []
    other = next(f"o{n}" for n in range(10_000) if shard_of(f"o{n}") == SHARD)
    rows.put(other, decision(), 0.01)
    (put,) = write(rows, 0.01)
    assert content(put).keys() == {KEY, other}


@pytest.mark.parametrize(
    ("changed", "after"),
    [
        (decision(105, allow=False), 0.0),
        (decision(105, fail_mode="open"), 0.0),
        (decision(105, spent=2.0), 1.0),
        (decision(105), REFRESH_SECONDS),
        (decision(100), float("inf")),
    ],
)
def test_what_changed_says_how_soon_it_is_written(changed: Decision, after: float) -> None:
    rows = DecidedRows(set())
    rows.put(KEY, decision(), 0.0)
    write(rows, 0.0)
    rows.put(KEY, changed, 0.1)
    if after:
        assert rows.next_due() == after
        assert rows.due(min(after - 0.01, 1e9)) == []
    if after < float("inf"):
        assert rows.due(after) == [SHARD]
        assert content(write(rows, after)[0]) == {KEY: changed}
    assert rows.get(KEY) == changed


def test_what_came_while_a_row_was_written_is_written_after_it() -> None:
    rows = DecidedRows(set())
    rows.put(KEY, decision(), 0.0)
    ((_, written),) = list(rows.transactions("/run", rows.due(0.0), BIG))
    rows.put(KEY, decision(101, allow=False), 0.0)
    rows.written(written, 0.1)
    assert rows.due(0.1) == [SHARD]
    assert content(write(rows, 0.1)[0])[KEY].allow is False


def test_numbers_cost_etcd_so_many_bytes_a_second_at_most() -> None:
    keys = [f"key-{n}" for n in range(5000)]
    rows = DecidedRows(set(keys))
    for key in keys:
        rows.put(key, decision(), 0.0)
    size = sum(len(put.value) for put in write(rows, 0.0) if isinstance(put, Put))
    assert size > 1.5 * NUMBERS_BYTES
    for key in keys:
        rows.put(key, decision(105, spent=2.0), 0.1)
    assert size / NUMBERS_BYTES <= rows.next_due() < size / NUMBERS_BYTES + 0.5


def test_a_transaction_has_so_many_bytes_at_most() -> None:
    rows = DecidedRows(set())
    for n in range(2000):
        rows.put(f"key-{n}", decision(), 0.0)
    parts = list(rows.transactions("/run", rows.due(0.0), 32 * 1024))
    assert len(parts) > 4
    assert all(written.size <= 32 * 1024 for _, written in parts)
    assert sum(len(operations) for operations, _ in parts) == SHARDS


def test_decisions_of_a_former_leader_are_taken_up_as_they_are() -> None:
    first = DecidedRows(set())
    first.put(KEY, decision(), 0.0)
    (put,) = write(first, 0.0)
    assert isinstance(put, Put)
    rows = DecidedRows(set())
    rows.load("/run", KeyValue(put.key, put.value, 1, 1), 5.0)
    assert (rows.get(KEY), len(rows), rows.due(1e6)) == (decision(), 1, [])
    rows.put(KEY, decision(110), 6.0)
    assert rows.next_due() == 5.0 + REFRESH_SECONDS


@pytest.mark.parametrize(
    ("key", "value", "rewritten"),
    [
        (decided_key("/run", SHARD), b"{", True),
        (decided_key("/run", SHARD), b'{"keys":{"k":{"allow":1,"at":2}}}', True),
        (decided_key("/run", (SHARD + 1) % SHARDS), b'{"keys":{"key-1":{"allow":true,"at":2}}}', True),
        ("/run/budgets/decided/64", b'{"keys":{"key-1":{"allow":true,"at":2}}}', False),
    ],
)
def test_damaged_rows_and_keys_in_the_wrong_place_are_not_taken_up(key: str, value: bytes, rewritten: bool) -> None:
    rows = DecidedRows(set())
    rows.load("/run", KeyValue(key, value, 1, 1), 0.0)
    assert len(rows) == 0
    assert [operation.key for operation in write(rows, 60.0)] == ([key] if rewritten else [])


def test_a_key_not_in_use_is_kept_for_an_hour_and_its_row_goes_with_it() -> None:
    in_use = {KEY}
    rows = DecidedRows(in_use)
    rows.put(KEY, decision(), 0.0)
    write(rows, 0.0)
    rows.tidy(2 * KEEP_SECONDS)
    assert len(rows) == 1, "it is in use, whether the Cloud answers or not"
    in_use.clear()
    rows.tidy(3 * KEEP_SECONDS)
    assert len(rows) == 1
    rows.tidy(3 * KEEP_SECONDS + 1)
    assert len(rows) == 0
    assert write(rows, 3 * KEEP_SECONDS + 1) == [Delete(decided_key("/run", SHARD))]


def test_where_there_is_no_room_those_go_that_were_not_in_use_for_longest() -> None:
    in_use = {f"used-{n}" for n in range(100)}
    rows = DecidedRows(in_use, most=300)
    for n in range(200):
        rows.put(f"idle-{n:03d}", decision(), float(n))
    for n in range(100):
        rows.put(f"used-{n}", decision(), 0.0)
    rows.put("new", decision(), 300.0)
    assert len(rows) <= 300
    assert rows.get("new") is not None
    assert rows.get("idle-000") is None
    assert rows.get("idle-199") is not None
    assert all(rows.get(key) is not None for key in in_use)


def test_where_all_are_in_use_one_goes() -> None:
    in_use = {"a", "b", "c"}
    rows = DecidedRows(in_use, most=2)
    for now, key in enumerate(("a", "b", "c")):
        rows.put(key, decision(), float(now))
    assert [rows.get(key) is not None for key in ("a", "b", "c")] == [False, True, True]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Decision(True, 1), Decision(True, 9), True),
        (Decision(True, 1), Decision(False, 1), False),
        (Decision(False, 1, denial=Denial("a")), Decision(False, 1, denial=Denial("b")), False),
        (Decision(False, 1, denial=Denial("a")), Decision(False, 1), False),
        (Decision(True, 1, budget=Budget(1.0)), Decision(True, 1, budget=Budget(2.0)), False),
        (Decision(True, 1, budget=Budget()), Decision(True, 1), False),
        (
            Decision(False, 10, denial=Denial(retry_after_seconds=60), budget=Budget(reset_seconds=60.4)),
            Decision(False, 30, denial=Denial(retry_after_seconds=40), budget=Budget(reset_seconds=40.0)),
            True,
        ),
        (
            Decision(False, 10, denial=Denial(retry_after_seconds=60)),
            Decision(False, 30, denial=Denial(retry_after_seconds=60)),
            True,
        ),
        (
            Decision(False, 10, denial=Denial(retry_after_seconds=60)),
            Decision(False, 30, denial=Denial(retry_after_seconds=80)),
            False,
        ),
        (Decision(True, 1, budget=Budget(reset_seconds=1.0)), Decision(True, 1, budget=Budget()), False),
    ],
)
def test_seconds_that_count_down_are_no_change(one: Decision, other: Decision, expected: bool) -> None:
    assert same(one, other) is expected
