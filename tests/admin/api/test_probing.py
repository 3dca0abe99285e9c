"""POST .../test: the question as proxies find it in etcd, and what is made of their answers, over a socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from aisix_admin.api.probing import path_of
from aisix_admin.errors import Invalid
from aisix_common.secrets.probe import Probe, ProbeAnswer, answer_key, decode, encode, probes_prefix
from aisix_common.store.types import Changes, KeyValue
from aisix_common.store.watch import list_and_watch
from aisix_common.tasks import TaskOwner

from tests.support.admin import RunningAdmin

PROVIDER = {"manager": "vault", "name": "main", "uri": "http://127.0.0.1:1", "auth": {"method": "token", "token": "t"}}


@asynccontextmanager
async def proxies(admin: RunningAdmin, *answers: ProbeAnswer) -> AsyncIterator[list[Probe]]:
    """Proxies as the fleet knows them, each with what it answers; gives what they were asked."""
    run = f"/run{admin.prefix}"
    asked: list[Probe] = []
    for answer in answers:
        row = {"instance": answer.instance, "service": "proxy", "hostname": answer.hostname, "connected": True}
        await admin.etcd.put(f"{run}/instances/{answer.instance}", json.dumps(row).encode())
    async with asyncio.timeout(10):
        while len(admin.services.fleet.live()) < len(answers):
            await asyncio.sleep(0.01)

    async def follow() -> None:
        async for event in list_and_watch(admin.etcd, probes_prefix(run)):
            for change in event.events if isinstance(event, Changes) else ():
                if not isinstance(change, KeyValue):
                    continue
                probe = decode(change.value, Probe)
                assert probe is not None and change.lease, "the question ends by itself"
                asked.append(probe)
                for answer in answers:
                    await admin.etcd.put(answer_key(run, probe.token, answer.instance), encode(answer))

    async with TaskOwner() as tasks:
        tasks.spawn(follow(), name="answer")
        yield asked


async def test_every_proxy_is_asked(admin: RunningAdmin) -> None:
    entry = await admin.create("secret_providers", PROVIDER)
    both = ProbeAnswer("one", "host-1", ok=True, ms=4), ProbeAnswer("two", "host-2", ok=False, reason="403", ms=2)
    async with proxies(admin, *both) as asked:
        status, body = await admin.call("POST", f"/secret_providers/{entry['id']}/test", {"path": "team/openai/key"})
        assert (status, body) == (
            200,
            {
                "provider": "vault/main",
                "ok": False,
                "instances": [
                    {"instance": "one", "hostname": "host-1", "ok": True, "ms": 4},
                    {"instance": "two", "hostname": "host-2", "ok": False, "reason": "403", "ms": 2},
                ],
            },
        )
        assert [(probe.provider, probe.path) for probe in asked] == [("vault/main", ("team", "openai", "key"))]
        status, body = await admin.call("POST", "/apisix/admin/secret_providers/vault/main/test")
        assert status == 200 and len(body["instances"]) == 2 and asked[-1].path is None
    assert not (await admin.etcd.range(probes_prefix(f"/run{admin.prefix}"))).rows, "taken back"


async def test_nobody_there_and_nothing_to_ask_for(admin: RunningAdmin) -> None:
    entry = await admin.create("secret_providers", PROVIDER)
    path = f"/secret_providers/{entry['id']}/test"
    status, body = await admin.call("POST", path)
    assert (status, body["ok"], body["instances"]) == (200, False, []) and "no proxy" in body["reason"]
    assert (await admin.call("POST", "/secret_providers/none/test"))[0] == 404
    assert (await admin.viewing().call("POST", path))[0] == 403
    status, body = await admin.call("POST", path, {"path": "a//b", "value": 1})
    assert status == 400 and [error["path"] for error in body["errors"]] == ["/value", "/path"]


@pytest.mark.parametrize(
    ("path", "segments"),
    [("a", ("a",)), ("a/b/key", ("a", "b", "key")), ("$secret:/x", ("$secret:", "x"))],
)
def test_a_path_is_what_stands_behind_the_provider(path: str, segments: Sequence[str]) -> None:
    assert path_of("vault/main", {"path": path}) == segments
    assert path_of("vault/main", {}) is None


@pytest.mark.parametrize("path", ["", "/a", "a/", "a/../b", "a?b", "a b", "x" * 2000, None, 5, ["a"]])
def test_what_is_no_path_is_refused(path: object) -> None:
    with pytest.raises(Invalid) as refused:
        path_of("vault/main", {"path": path})
    assert [problem.path for problem in refused.value.problems] == ["/path"]
