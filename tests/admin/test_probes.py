"""Who is asked whether a secret manager is reached, and what is made of the answers: on scripted rows, without time."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from aisix_admin.errors import StoreAway
from aisix_admin.fleet import Instance, InstanceRow
from aisix_admin.probes import NO_PROXY, PATIENCE, Probes, proxies_of
from aisix_common.errors import StoreUnavailable
from aisix_common.secrets.probe import LEASE_SECONDS, Probe, ProbeAnswer, decode, encode
from aisix_common.store.types import KeyValue, RangeResult

from tests.support.builders import Clock

PREFIX = "/run/aisix/asking/t1/"


def proxy(id: str, **more: Any) -> Instance:
    return Instance(id, InstanceRow(instance=id, hostname=f"host-{id}", connected=True, **more))


class Rows:
    """The store as the question sees it: `answers` come one by one, with each look for them."""

    def __init__(self, *answers: Sequence[tuple[str, bytes]], down: bool = False) -> None:
        self.answers = list(answers)
        self.there: list[KeyValue] = []
        self.asked: list[Probe] = []
        self.leases: dict[int, bool] = {}
        self.down = down

    async def grant(self, ttl: int) -> int:
        assert ttl == LEASE_SECONDS
        self.leases[7] = True
        return 7

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        assert key == "/run/aisix/probes/t1" and self.leases[lease]
        probe = decode(value, Probe)
        assert probe is not None
        self.asked.append(probe)
        return 1

    async def range(self, prefix: str, *, limit: int = 0) -> RangeResult:
        assert prefix == PREFIX
        if self.down:
            raise StoreUnavailable("gone")
        if self.answers:
            self.there += [KeyValue(PREFIX + id, value, 1, 1) for id, value in self.answers.pop(0)]
        return RangeResult(tuple(self.there), 1)

    async def revoke(self, lease: int) -> None:
        self.leases[lease] = False


def said(id: str, **more: Any) -> tuple[str, bytes]:
    return id, encode(ProbeAnswer(id, "h", **{"ok": True, "ms": 3, **more}))


async def ask(rows: Rows, *proxies: Instance, path: Sequence[str] | None = None) -> Mapping[str, Any]:
    probes = Probes(rows, "/run/aisix", Clock(), new_token=lambda: "t1")
    return (await probes.ask("vault/main", path, proxies)).shown()


@pytest.mark.looptime
async def test_all_reach_it() -> None:
    rows = Rows([], [said("a")], [said("b", ms=5)])
    assert await ask(rows, proxy("b"), proxy("a"), path=["x", "y"]) == {
        "provider": "vault/main",
        "ok": True,
        "instances": [
            {"instance": "a", "hostname": "host-a", "ok": True, "ms": 3},
            {"instance": "b", "hostname": "host-b", "ok": True, "ms": 5},
        ],
    }
    (question,) = rows.asked
    assert (question.token, question.provider, question.path) == ("t1", "vault/main", ("x", "y"))
    assert question.asked_at.endswith("Z") and rows.leases == {7: False}, "the question is taken back"


@pytest.mark.looptime
async def test_one_does_not() -> None:
    told = await ask(Rows([said("a"), said("b", ok=False, reason="answered 403")]), proxy("a"), proxy("b"))
    assert told["ok"] is False
    assert told["instances"][1] == {
        "instance": "b",
        "hostname": "host-b",
        "ok": False,
        "reason": "answered 403",
        "ms": 3,
    }


@pytest.mark.looptime
async def test_who_says_nothing_is_waited_for_and_named(looptime: Any) -> None:
    told = await ask(Rows([said("a"), ("b", b"garbage")]), proxy("a"), proxy("b"))
    assert told["ok"] is False
    assert told["instances"][1] == {
        "instance": "b",
        "hostname": "host-b",
        "ok": False,
        "reason": "did not answer in time",
    }
    assert PATIENCE <= looptime < PATIENCE + 1


@pytest.mark.looptime
async def test_one_that_is_cut_off_is_named_and_not_waited_for(looptime: Any) -> None:
    away = Instance("b", InstanceRow(instance="b", connected=False))
    told = await ask(Rows([said("a")]), proxy("a"), away)
    assert looptime < 1 and told["ok"] is False
    assert "does not hear from etcd" in next(each["reason"] for each in told["instances"] if each["instance"] == "b")


@pytest.mark.looptime
async def test_one_that_came_meanwhile_may_answer() -> None:
    told = await ask(Rows([said("new"), said("a")]), proxy("a"))
    assert [each["instance"] for each in told["instances"]] == ["new", "a"] and told["ok"] is True


@pytest.mark.looptime
async def test_nobody_is_no_yes() -> None:
    rows = Rows()
    assert await ask(rows) == {"provider": "vault/main", "ok": False, "reason": NO_PROXY, "instances": []}
    assert not rows.asked


@pytest.mark.looptime
async def test_etcd_going_away_is_said_and_the_lease_is_left_to_end() -> None:
    with pytest.raises(StoreAway):
        await ask(Rows(down=True), proxy("a"))


def test_only_proxies_that_stay_are_asked() -> None:
    there = [proxy("a"), proxy("b", service="proxy"), proxy("c", service="admin"), proxy("d", stopping=True)]
    assert [one.id for one in proxies_of(there)] == ["a", "b"]
