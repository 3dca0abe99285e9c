"""Questions whether a secret manager is reached, and this proxy's answers: rows of a real etcd, and of a script."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from aisix_common.clock import rfc3339
from aisix_common.secrets.probe import Probe, ProbeAnswer, answer_key, answers_prefix, decode, encode, probe_key
from aisix_common.store.client import EtcdClient
from aisix_common.store.options import EtcdOptions
from aisix_common.store.types import KeyValue, WatchEvent
from aisix_common.tasks import TaskOwner
from aisix_proxy.secret_managers.base import Refused
from aisix_proxy.secret_managers.clients import Clients
from aisix_proxy.secret_managers.probing import AT_ONCE, Answerer, Probing

from .scripted import Manager, making, vault
from tests.common.snapshot.rows import NOON, changes, listing
from tests.common.sources.support import Log, Script, SetClock
from tests.support.etcd import EtcdServer

TOKEN = "0123456789abcdef0123456789abcdef"


def probe(token: str = TOKEN, provider: str = "vault/v", path: tuple[str, ...] | None = None, age: int = 0) -> Probe:
    return Probe(token, provider, rfc3339(NOON - timedelta(seconds=age)), path)


class Stage:
    """Probing at work on the questions of a script; answers go to a real etcd."""

    def __init__(self, client: EtcdClient, root: str) -> None:
        self.client, self.root = client, root
        self.script, self.manager = Script(), Manager({"v/a/k": "sk-canary"})
        self.clients = Clients(making(self.manager), Log().log)
        self.clients.update({"vault/v": vault()})
        answerer = Answerer(root, "i-1", "host")
        self.probing = Probing(client, answerer, self.clients, SetClock(), Log().log, watch=self.script.watch)

    def row(self, asked: Probe) -> KeyValue:
        return KeyValue(probe_key(self.root, asked.token), encode(asked), 1, 1)

    async def ask(self, *events: WatchEvent) -> None:
        await self.script.feed(*events)

    async def answer(self, token: str = TOKEN) -> ProbeAnswer:
        key = answer_key(self.root, token, "i-1")
        async with asyncio.timeout(10):
            while (found := await self.client.get(key)) is None:
                await asyncio.sleep(0.02)
        assert "canary" not in found.value.decode()
        told = decode(found.value, ProbeAnswer)
        assert told is not None
        return told


@asynccontextmanager
async def playing(etcd: EtcdServer, root: str) -> AsyncIterator[Stage]:
    async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client, TaskOwner() as tasks:
        stage = Stage(client, root)
        tasks.spawn(stage.probing.run(), name="probing")
        yield stage


@pytest.mark.parametrize(
    ("asked", "ok", "reason"),
    [
        (probe(), True, ""),
        (probe(path=("a", "k")), True, ""),
        (probe(path=("a", "none")), False, "there is no secret v/a/none"),
        (probe(path=("..", "k")), False, "error format"),
        (probe(provider="vault/none"), False, "this proxy does not know the provider (yet)"),
        (probe(provider="aws/v"), False, "this proxy does not know the provider (yet)"),
    ],
)
async def test_answers(etcd: EtcdServer, etcd_prefix: str, asked: Probe, ok: bool, reason: str) -> None:
    async with playing(etcd, etcd_prefix) as stage:
        await stage.ask(changes(stage.row(asked)))
        told = await stage.answer()
        assert (told.instance, told.hostname, told.ok) == ("i-1", "host", ok)
        assert told.reason.startswith(reason)
        assert bool(told.reason) is not ok
        found = await stage.client.range(answers_prefix(stage.root, TOKEN))
        assert [row.lease > 0 for row in found.rows] == [True]


async def test_what_the_manager_says_is_told(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with playing(etcd, etcd_prefix) as stage:
        stage.manager.trouble = Refused("the token is not let in")
        await stage.ask(changes(stage.row(probe())))
        assert (await stage.answer()).reason == "the token is not let in"


async def test_few_are_tried_at_once(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with playing(etcd, etcd_prefix) as stage:
        stage.manager.delay = 0.5
        tokens = [f"{n:032x}" for n in range(AT_ONCE + 3)]
        await stage.ask(changes(*(stage.row(probe(token)) for token in tokens)))
        told = [await stage.answer(token) for token in tokens]
        assert [answer.ok for answer in told].count(True) == AT_ONCE
        assert {answer.reason for answer in told if not answer.ok} == {
            "this proxy is busy with other such questions: ask again"
        }


async def test_what_is_old_twice_asked_or_no_question_is_not_answered(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with playing(etcd, etcd_prefix) as stage:
        fresh = stage.row(probe())
        rows = (
            stage.row(probe("1" * 32, age=31)),
            KeyValue(probe_key(stage.root, "2" * 32), b"{", 1, 1),
            KeyValue(probe_key(stage.root, "3" * 32), encode(probe("4" * 32)), 1, 1),
            stage.row(probe("a/b")),
            KeyValue(probe_key(stage.root, "5" * 32), encode(Probe("5" * 32, "vault/v", "yesterday")), 1, 1),
            fresh,
        )
        await stage.ask(listing(*rows), changes(fresh), listing(fresh), changes(stage.row(probe("6" * 32, age=31))))
        await stage.answer()
        await stage.answer("6" * 32)  # seen as it was asked, whatever the clocks say
        found = await stage.client.range(f"{stage.root}/asking/")
        assert len(found.rows) == 2
        assert stage.manager.asked == []
