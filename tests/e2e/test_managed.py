"""A managed gateway from nothing but a token, as real processes: identity, projection, a request, what the Cloud hears
of it, and what a proxy does not have."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from aisix_common.managed.outbox import unpacked
from aisix_common.store.client import EtcdClient, EtcdOptions

from tests.chaos.cloud_process import CloudProcess
from tests.support import looking
from tests.support import provider as providers
from tests.support.gateway import until
from tests.support.managed import Managed, demo_rows, managed

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]


class World:
    """A Cloud, and a gateway that has nothing but a token of it."""

    def __init__(self, cloud: CloudProcess, gateway: Managed) -> None:
        self.cloud = cloud
        self.gateway = gateway

    async def heartbeats(self) -> list[Any]:
        found: list[Any] = (await self.cloud.state())["heartbeats"]
        return found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("managed")
    async with providers.running() as provider, aiohttp.ClientSession() as http:
        cloud = CloudProcess(folder / "cloud", http)
        try:
            await cloud.start()
            for kind, rows in demo_rows(provider.base).items():
                for row_id, document in rows.items():
                    await cloud.put(kind, row_id, document)
            token = cloud.described["environments"][0]["token_file"]
            link = {
                "cp_base_url": cloud.described["url"],
                "bootstrap": {"token_file": token, "ca_pin": cloud.described["ca_pin"]},
                "usage": {"flush_secs": 1},
            }
            async with managed(folder / "gateway", link) as gateway:
                for program in gateway.programs:
                    program.start()
                await gateway.serves()
                yield World(cloud, gateway)
        finally:
            cloud.kill()


async def test_from_a_token_to_a_request_and_its_usage_event(world: World) -> None:
    proxy = world.gateway.proxies[0]
    async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="sk-managed", max_retries=0) as client:
        answer = await client.chat.completions.with_raw_response.create(
            model="demo-model", messages=[{"role": "user", "content": "Hi"}]
        )
    request_id = answer.headers["x-aisix-call-id"]

    async def told() -> bool:
        return request_id in {event["request_id"] for event in await world.cloud.events()}

    await until(told, 15)
    revision = (await world.cloud.state())["revision"]

    async def beats() -> bool:
        return any(beat["document"]["applied_revision"] > 0 for beat in await world.heartbeats())

    await until(beats, 15)
    beat = (await world.heartbeats())[-1]
    assert beat["document"]["applied_revision"] <= revision
    assert beat["sender"]["env_id"] == world.cloud.env_id
    assert beat["user_agent"].startswith("aisix-dp/")


async def test_a_change_in_the_cloud_is_served(world: World) -> None:
    document = {
        "display_name": "another",
        "provider": "openai",
        "model_name": "gpt-4o-mini",
        "provider_key_id": "pk-demo",
    }
    await world.cloud.put("models", "m-another", document)
    await world.gateway.serves(model="another", seconds=5)
    await world.cloud.delete("models", "m-another")

    async def gone() -> bool:
        return (await world.gateway.chat("Hi", model="another"))[0] == 404

    await until(gone, 5)


async def test_a_hundred_requests_under_one_id_of_the_caller_are_a_hundred_events(world: World) -> None:
    chosen = {"x-request-id": "one-id-for-all"}
    before = {event["request_id"] for event in await world.cloud.events()}
    asked = [world.gateway.chat("Hi", headers=chosen) for _ in range(100)]
    assert [status for status, _ in await asyncio.gather(*asked)] == [200] * 100

    async def all_there() -> bool:
        return len({event["request_id"] for event in await world.cloud.events()} - before) >= 100

    await until(all_there, 20)
    assert (await world.cloud.state())["conflicts"] == 0


async def test_a_denied_key_gets_the_cloud_s_words(world: World) -> None:
    denied = {
        "allow": False,
        "fail_mode": "closed",
        "reason": {"message": "the team's budget is spent", "scope": "team", "scope_ref": "t-1", "limit_usd": 10},
    }
    url = f"{world.cloud.described['control']}/budgets/ak-demo"
    async with world.gateway.http.put(url, json=denied) as response:
        assert response.status == 200

    async def refused() -> bool:
        return (await world.gateway.chat("Hi"))[0] == 429

    await until(refused, 15)
    _, body = await world.gateway.chat("Hi")
    error = body["error"]
    assert (error["type"], error["code"], error["message"]) == (
        "billing_error",
        "budget_exceeded",
        "the team's budget is spent",
    )
    assert (error["scope"], error["limit_usd"]) == ("team", "10.00")
    async with world.gateway.http.put(url, json={"allow": True, "fail_mode": "sticky"}):
        pass
    await world.gateway.serves()


async def test_a_proxy_has_no_key_and_no_socket_of_the_cloud(world: World) -> None:
    proxy, agent = world.gateway.proxies[0], world.gateway.agents[0]
    key = (agent.folder / "mtls" / "client.key").read_text()
    secret = "".join(key.splitlines()[1:-1])[20:60].encode()
    port = int(world.cloud.described["endpoint"].rpartition(":")[2])
    assert port in {socket.remote for socket in looking.sockets(agent.pid)}  # it can be seen where it is
    assert port not in {socket.remote for socket in looking.sockets(proxy.pid)}
    assert not [path for path in looking.files(proxy.pid) if "mtls" in path]
    assert not looking.holds(proxy.pid, secret)


async def test_token_and_key_are_nowhere_but_in_their_places(world: World) -> None:
    gateway, environment = world.gateway, world.cloud.described["environments"][0]
    key = (gateway.agents[0].folder / "mtls" / "client.key").read_text()
    token = Path(environment["token_file"]).read_text().strip()
    canaries = {"token": token, "key": "".join(key.splitlines()[1:-1])[20:60], "provider": "sk-provider-canary-7171"}
    places = {program.folder.name + " log": program.output() for program in gateway.programs}
    for program in gateway.programs:
        places[f"{program.folder.name} metrics"] = await program.page()
    places["status"] = await gateway.agents[0].page("/status/cloud")
    async with EtcdClient(EtcdOptions(endpoints=(gateway.etcd.endpoint,))) as client:
        rows = {row.key: row.value for row in (await client.range("/")).rows}
    assert {"/run/aisix/projection", "/aisix/provider_keys/pk-demo"} <= rows.keys()
    for key, value in rows.items():
        events = b"\n".join(unpacked(value)) if key.startswith("/run/aisix/outbox/") else value
        places[key] = events.decode(errors="replace")
    for program in gateway.programs:
        for path in program.folder.rglob("*"):
            if path.is_file() and path.parent.name != "mtls" and path.name != "log":
                places[str(path)] = path.read_bytes().decode(errors="replace")
    found = [(what, place) for what, canary in canaries.items() for place, text in places.items() if canary in text]
    assert found == []


async def test_nothing_but_proxy_and_metrics_is_listened_on(world: World) -> None:
    gateway = world.gateway
    listening = {
        program.folder.name: sorted(socket.local for socket in looking.sockets(program.pid) if socket.listening)
        for program in gateway.programs
    }
    proxy, agent = gateway.proxies[0], gateway.agents[0]
    ports = sorted(int(url.rpartition(":")[2]) for url in (proxy.url, proxy.metrics))
    assert listening == {"proxy-0": ports, "agent-0": [int(agent.metrics.rpartition(":")[2])]}
