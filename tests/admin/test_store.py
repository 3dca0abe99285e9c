"""Writes under trouble: lost answers, foreign writers, an etcd that is away."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import structlog

from aisix_admin.audit import Actor
from aisix_admin.auth import AdminKeys
from aisix_admin.decisions import Decisions
from aisix_admin.errors import Conflict, StoreAway
from aisix_admin.follow import Follower
from aisix_admin.index import ResourceIndex
from aisix_admin.rows import DEADLINE, Etcd, Roots
from aisix_admin.sealing import Sealing
from aisix_admin.store import Manner, ResourceStore, Written
from aisix_common.clock import SYSTEM_CLOCK
from aisix_common.errors import StoreUnavailable
from aisix_common.logs import Logger
from aisix_common.resources import KINDS, PROVIDER_KEYS
from aisix_common.secret import Secret
from aisix_common.store.client import EtcdClient, EtcdOptions
from aisix_common.store.types import (
    Compare,
    KeyValue,
    Listing,
    Operation,
    RangeResult,
    TransactionResult,
    WatchEvent,
)
from aisix_common.tasks import TaskOwner

from tests.support.admin import KEYRING, RunningAdmin, running_admin
from tests.support.consistency import everything
from tests.support.counting import Counting
from tests.support.cutproxy import CutProxy
from tests.support.etcd import EtcdCluster, EtcdServer


def document(**changes: Any) -> dict[str, Any]:
    """A provider key: a named resource that needs no other."""
    return {"display_name": "gpt", "api_key": "k", **changes}


class Unlucky(Counting):
    """An etcd client whose next transactions lose their answer: `plan` says for each what happens before it is lost."""

    def __init__(self, client: EtcdClient) -> None:
        super().__init__(client)
        self.plan: list[Callable[[EtcdClient, Callable[[], Any]], Any]] = []
        self.late: Callable[[], Any] | None = None
        """Done before the next attempt looks: what took effect after everybody had stopped waiting for it."""

    async def together(self, keys: Sequence[str]) -> tuple[tuple[KeyValue | None, ...], int]:
        if self.late is not None:
            late, self.late = self.late, None
            assert (await late()).succeeded
        return await super().together(keys)

    async def txn(
        self, compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation] = ()
    ) -> TransactionResult:
        if not self.plan:
            return await super().txn(compare, success, failure)
        self.transactions += 1
        await self.plan.pop(0)(self._client, lambda: self._client.txn(compare, success, failure))
        raise StoreUnavailable("the answer was lost")


async def committed(client: EtcdClient, txn: Callable[[], Any]) -> None:
    assert (await txn()).succeeded


async def never_arrived(client: EtcdClient, txn: Callable[[], Any]) -> None:
    return None


def takes_effect_late(luck: "Luck") -> Callable[[EtcdClient, Callable[[], Any]], Any]:
    async def step(client: EtcdClient, txn: Callable[[], Any]) -> None:
        assert luck.client is not None
        luck.client.late = txn

    return step


class Luck:
    """Keeps the client that `running_admin` wraps, for the test to plan with."""

    def __init__(self) -> None:
        self.client: Unlucky | None = None

    def __call__(self, client: EtcdClient) -> Etcd:
        self.client = Unlucky(client)
        return self.client

    def plan(self, *steps: Callable[[EtcdClient, Callable[[], Any]], Any]) -> None:
        assert self.client is not None
        self.client.plan = list(steps)


@pytest.mark.parametrize("step", [committed, never_arrived])
class TestLostAnswers:
    """A transaction that did or did not take effect, and whose answer never came."""

    async def test_create(self, etcd: EtcdServer, etcd_prefix: str, step: Any) -> None:
        luck = Luck()
        async with running_admin(etcd.endpoint, etcd_prefix, via=luck) as admin:
            luck.plan(step)
            status, entry = await admin.call("POST", "/provider_keys", document())
            assert status == 200, entry
            assert await admin.call("GET", "/provider_keys") == (200, [entry])

    async def test_replace(self, etcd: EtcdServer, etcd_prefix: str, step: Any) -> None:
        luck = Luck()
        async with running_admin(etcd.endpoint, etcd_prefix, via=luck) as admin:
            entry = await admin.create("provider_keys", document())
            luck.plan(step)
            status, body = await admin.call("PUT", f"/provider_keys/{entry['id']}", document(api_base="new"))
            assert status == 200, body
            row = await admin.etcd.get(f"{etcd_prefix}/provider_keys/{entry['id']}")
            assert row is not None and row.version == 2, "written once, not twice"
            assert row.mod_revision == body["revision"]

    async def test_delete(self, etcd: EtcdServer, etcd_prefix: str, step: Any) -> None:
        luck = Luck()
        async with running_admin(etcd.endpoint, etcd_prefix, via=luck) as admin:
            entry = await admin.create("provider_keys", document())
            luck.plan(step)
            status, body = await admin.call("DELETE", f"/provider_keys/{entry['id']}")
            assert status == 200, body
            assert await admin.call("GET", "/provider_keys") == (200, [])


async def test_writes_that_take_effect_late(etcd: EtcdServer, etcd_prefix: str) -> None:
    """Reading back showed that nothing had happened yet; the next attempt finds it done."""
    luck = Luck()
    async with running_admin(etcd.endpoint, etcd_prefix, via=luck) as admin:
        luck.plan(takes_effect_late(luck))
        status, entry = await admin.call("POST", "/provider_keys", document())
        assert status == 200 and await admin.call("GET", "/provider_keys") == (200, [entry])
        luck.plan(takes_effect_late(luck))
        status, body = await admin.call("PUT", f"/provider_keys/{entry['id']}", document(api_base="new"))
        assert status == 200 and await admin.call("GET", "/provider_keys") == (200, [body])
        luck.plan(takes_effect_late(luck))
        status, body = await admin.call("DELETE", f"/provider_keys/{entry['id']}")
        assert status == 200, body
        assert (await admin.call("DELETE", f"/provider_keys/{entry['id']}"))[0] == 404


class Frozen:
    """An etcd without rows, at one revision. Nothing it is asked to write gets an answer."""

    def __init__(self, *, revision: int, reads: bool = True) -> None:
        self._revision = revision
        self._reads = reads

    async def get(self, key: str) -> KeyValue | None:
        return None

    async def range(self, prefix: str, *, limit: int = 0, revision: int = 0) -> RangeResult:
        raise AssertionError("no list on the way of a write")

    async def page(
        self, prefix: str, *, after: str = "", limit: int, start: str = "", revision: int = 0
    ) -> RangeResult:
        raise AssertionError("no list on the way of a write")

    async def together(self, keys: Sequence[str]) -> tuple[tuple[KeyValue | None, ...], int]:
        if not self._reads:
            await asyncio.Event().wait()
        return tuple(None for _ in keys), self._revision

    async def txn(
        self, compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation] = ()
    ) -> TransactionResult:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


ME = Manner(Actor("me", "127.0.0.1", "request"))
DECISIONS = Decisions(AdminKeys([Secret("admin")]))


class Followed:
    """A store whose follower hears what the test puts in."""

    def __init__(self, etcd: Etcd, root: str) -> None:
        self.heard: asyncio.Queue[WatchEvent] = asyncio.Queue()
        log = cast("Logger", structlog.get_logger())
        self.follower = Follower([self._events], ResourceIndex(root, KINDS), SYSTEM_CLOCK, log)
        numbers = itertools.count()
        self.store = ResourceStore(
            etcd,
            Roots(root, f"/run{root}", f"/ext{root}"),
            self.follower,
            SYSTEM_CLOCK,
            lambda: f"token-{next(numbers)}",
            Sealing(lambda: KEYRING, allow_plaintext=False),
        )

    async def _events(self) -> AsyncIterator[WatchEvent]:
        while True:
            yield await self.heard.get()

    async def create(self, name: str) -> Written:
        """Create a row whose id is its name."""
        document = {"display_name": name, "api_key": "secret"}
        edit, _ = DECISIONS.create(PROVIDER_KEYS, name, document)
        return await self.store.write([edit.place], lambda view: [edit], ME)


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("etcd_now", "seconds", "words"),
    [
        (Frozen(revision=7), DEADLINE, "may or may not have happened"),
        (Frozen(revision=7, reads=False), DEADLINE, "cannot be reached"),
        (Frozen(revision=6), 5, "went back in time"),
    ],
)
async def test_what_is_said_of_a_write_that_gets_no_answer(etcd_now: Frozen, seconds: float, words: str) -> None:
    around = Followed(etcd_now, "/aisix")
    now = asyncio.get_running_loop().time
    async with TaskOwner() as tasks:
        tasks.spawn(around.follower.run(), name="follow")
        around.heard.put_nowait(Listing((), 7))
        await around.follower.until(lambda: around.follower.index.listed)
        began = now()
        with pytest.raises(StoreAway, match=words):
            await around.create("name")
        assert now() - began == pytest.approx(seconds, abs=0.1)


async def test_names_are_not_claimed_by_an_index_that_etcd_went_back_behind(admin: RunningAdmin) -> None:
    """After a restore the index knows of names that are free, and not of those that are taken."""
    around = Followed(admin.etcd, admin.prefix)
    row = json.dumps({"display_name": "taken", "api_key": "k"}).encode()
    await admin.etcd.put(f"{admin.prefix}/provider_keys/theirs", row)
    async with TaskOwner() as tasks, asyncio.timeout(10):
        tasks.spawn(around.follower.run(), name="follow")
        around.heard.put_nowait(Listing((), 10**9))
        await around.follower.until(lambda: around.follower.index.listed)
        creating = tasks.spawn(around.create("taken"), name="create")
        await asyncio.wait([creating], timeout=0.3)
        assert not creating.done()
        found = await admin.etcd.range(admin.prefix + "/")
        around.heard.put_nowait(Listing(found.rows, found.revision))
        with pytest.raises(Conflict):
            await creating


async def test_a_lost_put_that_others_overwrote_is_not_put_again(etcd: EtcdServer, etcd_prefix: str) -> None:
    luck = Luck()
    async with running_admin(etcd.endpoint, etcd_prefix, via=luck) as admin:
        entry = await admin.create("provider_keys", document())
        key = f"{etcd_prefix}/provider_keys/{entry['id']}"
        theirs = json.dumps(document(api_base="theirs")).encode()

        async def overwritten(client: EtcdClient, txn: Callable[[], Any]) -> None:
            await committed(client, txn)
            await client.put(key, theirs)

        luck.plan(overwritten)
        status, body = await admin.call("PUT", f"/provider_keys/{entry['id']}", document(api_base="ours"))
        assert status == 200, "the audit row tells that ours was written, before theirs"
        row = await admin.etcd.get(key)
        assert row is not None and row.value == theirs and row.mod_revision > body["revision"]


async def test_a_row_that_changes_meanwhile_is_decided_again(etcd: EtcdServer, etcd_prefix: str) -> None:
    """A PUT with a mask takes the secret that is stored when it is written, not the one it saw first."""
    luck = Luck()
    async with running_admin(etcd.endpoint, etcd_prefix, via=luck) as admin:
        entry = await admin.create("provider_keys", {"display_name": "p", "api_key": "first"})
        key = f"{etcd_prefix}/provider_keys/{entry['id']}"

        async def changed_before(client: EtcdClient, txn: Callable[[], Any]) -> None:
            await client.put(key, json.dumps({"display_name": "p", "api_key": "second"}).encode())

        luck.plan(changed_before)
        status, body = await admin.call("PUT", f"/provider_keys/{entry['id']}", {**entry["value"], "display_name": "q"})
        assert status == 200, body
        assert (await admin.opened("provider_keys", entry["id"]))["api_key"] == "second"


async def test_names_of_foreign_writers_count(admin: RunningAdmin) -> None:
    """Written directly to etcd a moment before: the index cannot know it yet, the transaction does."""
    await admin.create("provider_keys", document(display_name="other"))
    for n in range(20):
        await admin.etcd.put(
            f"{admin.prefix}/provider_keys/foreign-{n}", json.dumps(document(display_name=f"name-{n}")).encode()
        )
        status, _ = await admin.call("POST", "/provider_keys", document(display_name=f"name-{n}"))
        assert status == 409
        await admin.etcd.delete(f"{admin.prefix}/provider_keys/foreign-{n}")
        status, _ = await admin.call("POST", "/provider_keys", document(display_name=f"name-{n}"))
        assert status == 200, "the name is free as soon as its holder is gone"


async def test_two_admins_share_the_names(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with running_admin(etcd.endpoint, etcd_prefix) as one, running_admin(etcd.endpoint, etcd_prefix) as other:
        for n in range(5):
            both = await asyncio.gather(
                *(
                    each.call("POST", "/provider_keys", document(display_name=f"n{n}"))
                    for each in (one, other)
                    for _ in range(4)
                )
            )
            assert sorted(status for status, _ in both) == [200] + [409] * 7, both
        assert (await one.call("GET", "/provider_keys"))[1] == (await other.call("GET", "/provider_keys"))[1]


async def test_many_writes_need_no_retries(etcd: EtcdServer, etcd_prefix: str) -> None:
    """Our own writers take turns: one transaction each, and no list of the kind."""
    luck = Luck()
    async with running_admin(etcd.endpoint, etcd_prefix, via=luck) as admin:
        answers = await asyncio.gather(
            *(admin.call("POST", "/provider_keys", document(display_name=f"n{n}")) for n in range(30))
        )
        assert {status for status, _ in answers} == {200}
        assert luck.client is not None and luck.client.transactions <= 31
        assert luck.client.rows <= 30 * 5


async def test_a_foreign_writer_in_the_last_moment(etcd: EtcdServer, etcd_prefix: str) -> None:
    """Between the look at the index and the commit: ours is withdrawn, with its history and audit row."""
    luck = Luck()
    async with running_admin(etcd.endpoint, etcd_prefix, via=luck) as admin:
        entry = await admin.create("provider_keys", document(display_name="mine"))
        assert luck.client is not None
        before = (await everything(admin.etcd, etcd_prefix)).rows

        async def foreign(client: EtcdClient, txn: Callable[[], Any]) -> None:
            await client.put(
                f"{etcd_prefix}/provider_keys/foreign", json.dumps(document(display_name="wanted")).encode()
            )
            await committed(client, txn)

        luck.plan(foreign)
        status, body = await admin.call("POST", "/provider_keys", document(display_name="wanted"))
        assert status == 409, body
        luck.plan(foreign)
        status, body = await admin.call("PATCH", f"/provider_keys/{entry['id']}", {"display_name": "wanted"})
        assert status == 409, body
        after = (await everything(admin.etcd, etcd_prefix)).rows
        foreign_key = f"{etcd_prefix}/provider_keys/foreign"
        turn = f"/run{etcd_prefix}/turn"
        assert {key: row.value for key, row in after.items() if key not in (foreign_key, turn)} == {
            key: row.value for key, row in before.items() if key != turn
        }


async def test_what_is_withdrawn_overwrites_nobody(etcd: EtcdServer, etcd_prefix: str) -> None:
    """A row that a set deleted and that somebody has made anew since is theirs."""
    luck = Luck()
    async with running_admin(etcd.endpoint, etcd_prefix, via=luck) as admin:
        entry = await admin.create("provider_keys", document(display_name="mine"))
        key = f"{etcd_prefix}/provider_keys/{entry['id']}"
        theirs = json.dumps(document(display_name="theirs")).encode()

        async def foreign(client: EtcdClient, txn: Callable[[], Any]) -> None:
            row = json.dumps(document(display_name="wanted")).encode()
            await client.put(f"{etcd_prefix}/provider_keys/foreign", row)
            await committed(client, txn)
            await client.put(key, theirs)

        luck.plan(foreign)
        members = [{"kind": "provider_keys", "value": document(display_name="wanted")}]
        gone = [{"kind": "provider_keys", "id": entry["id"]}]
        status, body = await admin.call("POST", "/apply", {"resources": members, "delete": gone})
        assert status == 409, body
        row = await admin.etcd.get(key)
        assert row is not None and row.value == theirs


async def test_references_that_lead_nowhere_are_looked_for_together(etcd: EtcdServer, etcd_prefix: str) -> None:
    """One by one, a set with thousands of them would keep every other writer waiting until the deadline."""
    luck = Luck()
    async with running_admin(etcd.endpoint, etcd_prefix, via=luck) as admin:
        leaves = [
            {"dimension": "api_key", "operator": "in", "value": [f"none-{n}-{m}" for m in range(64)]} for n in range(16)
        ]
        policy = {"name": "p", "limits": {"rpm": 1}, "conditions": leaves}
        status, body = await admin.call("POST", "/rate_limit_policies", policy)
        assert status == 400 and len(body["errors"]) == 16 * 64
        assert body["errors"][1]["path"] == "/conditions/0/value/1"
        assert luck.client is not None and luck.client.reads < 20


async def test_of_fifty_creators_one_wins(admin: RunningAdmin) -> None:
    answers = await asyncio.gather(*(admin.call("POST", "/provider_keys", document()) for _ in range(50)))
    assert sorted(status for status, _ in answers) == [200] + [409] * 49
    assert len((await admin.call("GET", "/provider_keys"))[1]) == 1


async def test_of_fifty_puts_with_if_match_one_wins_a_round(admin: RunningAdmin) -> None:
    entry = await admin.create("provider_keys", document())
    path, revision = f"/provider_keys/{entry['id']}", entry["revision"]
    for turn in range(3):
        headers = {"Authorization": f"Bearer {admin.key}", "If-Match": f'"{revision}"'}
        answers = await asyncio.gather(
            *(
                admin.send("PUT", path, document(telemetry_tags={"pk_label": f"{turn}-{n}"}), headers=headers)
                for n in range(50)
            )
        )
        assert sorted(answer.status for answer in answers) == [200] + [412] * 49
        winner = next(answer for answer in answers if answer.status == 200)
        revision = winner.json["revision"]
        assert winner.headers["ETag"] == f'"{revision}"'
        assert {answer.headers["ETag"] for answer in answers} == {f'"{revision}"'}
        assert (await admin.call("GET", path))[1] == winner.json


async def test_a_leader_that_dies_under_writes(tmp_path: Path, etcd_prefix: str) -> None:
    """What was answered is there; what was not is there as a whole, with its audit row, or not at all."""
    with EtcdCluster(tmp_path) as cluster:
        async with running_admin(",".join(cluster.endpoints), etcd_prefix, request_timeout=3) as admin:
            answers: list[tuple[int, Any]] = []

            async def writer(n: int) -> None:
                for m in range(12):
                    answers.append(await admin.call("POST", "/provider_keys", document(display_name=f"{n}-{m}")))

            async with TaskOwner() as tasks:
                writers = [tasks.spawn(writer(n), name="writer") for n in range(4)]
                while len(answers) < 8:
                    await asyncio.sleep(0.005)
                leader = (await admin.etcd.status()).leader
                dead = await member(cluster, leader)
                await asyncio.to_thread(cluster.members[dead].kill)
                await asyncio.wait(writers)
            assert {status for status, _ in answers} <= {200, 503}
            accepted = sum(status == 200 for status, _ in answers)
            async with asyncio.timeout(30):
                while (await admin.call("GET", "/provider_keys"))[0] != 200:
                    await asyncio.sleep(0.05)
            assert (await everything(admin.etcd, etcd_prefix)).require_complete() >= accepted > 8


async def member(cluster: EtcdCluster, id: int) -> int:
    """Which of the members has this id."""
    for place, server in enumerate(cluster.members):
        async with EtcdClient(EtcdOptions(endpoints=(server.endpoint,))) as client:
            if (await client.status()).member_id == id:
                return place
    raise AssertionError("no such member")


async def test_etcd_away_and_back(fresh_etcd: EtcdServer, etcd_prefix: str) -> None:
    async with running_admin(fresh_etcd.endpoint, etcd_prefix, request_timeout=0.5) as admin:
        entry = await admin.create("provider_keys", document())
        await asyncio.to_thread(fresh_etcd.kill)
        for method, path, body in (
            ("GET", "/provider_keys", None),
            ("GET", f"/provider_keys/{entry['id']}", None),
            ("GET", "/health", None),
            ("POST", "/provider_keys", document(display_name="new")),
            ("PUT", f"/provider_keys/{entry['id']}", document()),
            ("DELETE", f"/provider_keys/{entry['id']}", None),
        ):
            status, answer = await admin.call(method, path, body)
            assert status == 503, (method, answer)
            assert "etcd" in answer["error_msg"] and str(fresh_etcd.port) not in json.dumps(answer)
        assert (await admin.send("GET", "/readyz", headers={})).status == 200, "an outage of etcd is no reason to leave"
        await asyncio.to_thread(fresh_etcd.start)
        async with asyncio.timeout(20):
            while (await admin.call("GET", "/provider_keys"))[0] != 200:
                await asyncio.sleep(0.05)
            status, body = await admin.call("POST", "/provider_keys", document(display_name="new"))
            assert status == 200, body
        assert [each["value"]["display_name"] for each in (await admin.call("GET", "/provider_keys"))[1]].count(
            "new"
        ) == 1


async def test_names_after_a_restore(fresh_etcd: EtcdServer, etcd_prefix: str, tmp_path: Path) -> None:
    """A name that was free when etcd went back to a backup in which it is taken."""
    async with running_admin(fresh_etcd.endpoint, etcd_prefix) as admin:
        entry = await admin.create("provider_keys", document())
        await asyncio.to_thread(fresh_etcd.snapshot, tmp_path / "backup")
        await admin.call("DELETE", f"/provider_keys/{entry['id']}")
        for n in range(20):
            await admin.create("provider_keys", document(display_name=f"n{n}"))
        await asyncio.to_thread(fresh_etcd.restore, tmp_path / "backup")
        async with asyncio.timeout(30):
            while (answer := await admin.call("POST", "/provider_keys", document()))[0] == 503:
                await asyncio.sleep(0.01)
        assert answer[0] == 409
        assert [each["id"] for each in (await admin.call("GET", "/provider_keys"))[1]] == [entry["id"]]


async def test_a_cut_link_under_writes(etcd: EtcdServer, etcd_prefix: str) -> None:
    """Connections are reset under a stream of creates: what was answered 200 is there, once."""
    async with CutProxy(etcd.port) as link, running_admin(link.endpoint, etcd_prefix) as admin:
        accepted: dict[str, str] = {}
        for n in range(40):
            if n % 4 == 0:
                link.cut_after(200 + 37 * n)
            status, body = await admin.call("POST", "/provider_keys", document(display_name=f"n{n}"))
            if status == 200:
                accepted[body["id"]] = body["value"]["display_name"]
            else:
                assert status == 503, body
        async with asyncio.timeout(20):
            while (await admin.call("GET", "/provider_keys"))[0] != 200:
                await asyncio.sleep(0.05)
        _, listed = await admin.call("GET", "/provider_keys")
        there = {entry["id"]: entry["value"]["display_name"] for entry in listed}
        assert accepted.items() <= there.items()
        assert len(set(there.values())) == len(there), "no name twice"
        assert len(accepted) > 30
