"""A managed gateway over its life: leaders that die or hang, a certificate that is renewed, changes that are many."""

import asyncio
import datetime as dt
import itertools
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import provider as providers
from tests.support.cloud import Cloud, cloud
from tests.support.gateway import until
from tests.support.managed import Managed, Program, demo_rows, managed

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@asynccontextmanager
async def world(
    folder: Path, *, lifetime: dt.timedelta | None = None, proxies: int = 1, agents: int = 1, **more: Any
) -> AsyncIterator[tuple[Cloud, Managed]]:
    """A Cloud with the demo's rows, and the processes of a gateway with a token of it; agents share their store."""
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(providers.running())
        c = await stack.enter_async_context(cloud(folder / "cloud"))
        if lifetime is not None:
            c.enrolment.lifetime = lifetime
        for kind, rows in demo_rows(provider.base).items():
            await c.put_many(c.a, kind, rows)
        token = folder / "token"
        token.write_text(c.token(c.a))
        link: Mapping[str, Any] = {
            "cp_base_url": c.url,
            "bootstrap": {"token_file": str(token), "ca_pin": c.issuer.pin},
            "usage": {"flush_secs": 1},
            **more,
        }
        gateway = await stack.enter_async_context(managed(folder / "gateway", link, proxies=proxies, agents=agents))
        for agent in gateway.agents:
            agent.environ["AISIX_MANAGED__MTLS_DIR"] = str(folder / "mtls")
            agent.environ["AISIX_MANAGED__DP_ID_FILE"] = str(folder / "dp_id")
        for program in gateway.programs:
            program.start()
        for number in range(proxies):
            await gateway.serves(proxy=number)
        yield c, gateway


async def leading(agent: Program) -> bool:
    return bool((await agent.status())["leading"])


async def test_a_leader_that_is_killed_or_hangs_is_followed_within_15_seconds_and_never_writes_again(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, agents=2) as (c, gateway):
        for agent in gateway.agents:
            await agent.up()
        leader, other = gateway.agents if await leading(gateway.agents[0]) else gateway.agents[::-1]
        assert not await leading(other)

        leader.pause()
        begun = time.monotonic()
        await until(lambda: leading(other), 15)
        assert time.monotonic() - begun < 15
        await c.put(c.a, "models", "m-2", {**demo_rows("http://x")["models"]["m-demo"], "display_name": "second"})
        await gateway.serves(model="second")
        epoch = gateway.etcd.ctl("get", "/run/aisix/agent/epoch", "-w", "json")
        leader.resume()
        await c.put(c.a, "models", "m-3", {**demo_rows("http://x")["models"]["m-demo"], "display_name": "third"})
        await gateway.serves(model="third")

        async def stepped_down() -> bool:
            return not await leading(leader)

        await until(stepped_down, 15)
        assert gateway.etcd.ctl("get", "/run/aisix/agent/epoch", "-w", "json") == epoch or await leading(other)

        other.kill()
        begun = time.monotonic()
        await until(lambda: leading(leader), 15)
        assert time.monotonic() - begun < 15
        await c.delete(c.a, "models", "m-2")

        async def gone() -> bool:
            return (await gateway.chat("Hi", model="second"))[0] == 404

        await until(gone, 5)


async def test_a_certificate_is_renewed_under_load_and_nobody_notices(tmp_path: Path) -> None:
    lifetime = dt.timedelta(seconds=30)
    async with world(tmp_path, lifetime=lifetime) as (c, gateway):
        statuses: list[int] = []

        async def load() -> None:
            while True:
                statuses.append((await gateway.chat("Hi"))[0])
                await asyncio.sleep(0.02)

        first = c.heartbeats[0].sender.serial if c.heartbeats else None
        loading = asyncio.ensure_future(load())
        arrivals: list[float] = []

        async def renewed() -> bool:
            while len(arrivals) < len(c.heartbeats):
                arrivals.append(time.monotonic())
            serials = {beat.sender.serial for beat in c.heartbeats}
            return len(serials - {first}) >= (2 if first is None else 1) and len(arrivals) >= 6

        await until(renewed, 60)
        loading.cancel()
        assert set(statuses) == {200}
        gaps = [later - earlier for earlier, later in itertools.pairwise(arrivals)]
        assert max(gaps) < 7.5, gaps  # one every 5 s


async def test_a_change_is_used_by_every_proxy_within_a_second(tmp_path: Path) -> None:
    async with world(tmp_path, proxies=2) as (c, gateway):
        model = demo_rows("http://x")["models"]["m-demo"]
        await c.put_many(
            c.a, "models", {f"m-{n:05d}": {**model, "display_name": f"bulk-{n:05d}"} for n in range(10_000)}
        )
        for number in range(2):
            await gateway.serves(proxy=number, model="bulk-09999", seconds=60)
        latencies: list[float] = []

        async def used(name: str, begun: float, proxy: int) -> None:
            while (await gateway.chat("Hi", proxy=proxy, model=name))[0] != 200:
                assert time.monotonic() - begun < 10
                await asyncio.sleep(0.01)
            latencies.append(time.monotonic() - begun)

        async with asyncio.TaskGroup() as group:
            for n in range(100):
                name = f"change-{n}"
                begun = time.monotonic()
                await c.put(c.a, "models", "m-change", {**model, "display_name": name})
                waits = [group.create_task(used(name, begun, proxy)) for proxy in range(2)]
                await asyncio.sleep(0.2)
                await asyncio.wait(waits)
        latencies.sort()
        median, p99 = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
        print(f"\nchange in the Cloud to used by a proxy: median {median * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms")
        assert p99 < 1.0
