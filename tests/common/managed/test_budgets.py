"""Rows between proxies and agent: shards and their keys."""

from msgspec import json

from aisix_common.managed.budgets import (
    SHARDS,
    Asked,
    Decided,
    Decision,
    Denial,
    asked_key,
    asked_root,
    decided_key,
    decided_root,
    shard_of,
)

RUN = "/run/aisix"


def test_every_process_agrees_on_the_shard_of_a_key() -> None:
    assert [shard_of(key) for key in ("", "a", "7f0e4a0c-98f5-4d1b-9f5e-0d6c7b2f6f10")] == [0, 3, 36]
    assert {shard_of(str(n)) for n in range(2000)} == set(range(SHARDS))
    shard_of("\udcff")  # what a damaged row may hold


def test_keys() -> None:
    assert asked_key(RUN, 3, "i-1") == "/run/aisix/budgets/asked/03/i-1"
    assert decided_key(RUN, 3) == "/run/aisix/budgets/decided/03"
    assert asked_key(RUN, 3, "i").startswith(asked_root(RUN))
    assert decided_key(RUN, 3).startswith(decided_root(RUN))


def test_rows_survive_the_way_through_etcd() -> None:
    decided = Decided({"k": Decision(allow=False, at=7, denial=Denial(message="m", retry_after_seconds=3))})
    assert json.decode(json.encode(decided), type=Decided) == decided
    assert json.encode(Decided({"k": Decision(allow=True, at=7)})) == b'{"keys":{"k":{"allow":true,"at":7}}}'
    assert json.decode(json.encode(Asked(("a", "b"))), type=Asked) == Asked(("a", "b"))
