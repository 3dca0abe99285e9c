"""One run: a managed gateway of two proxies and two agents under load, parts of it killed one after the other.

What must hold in the end: the local rows are the Cloud's; every answer that a caller got whole has its usage event at
the Cloud; no event says two things, and no answer is counted twice.

The sleeps are the chance of it, when a part is killed and how long it is gone: nothing is waited for by them.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from aisix_cloud_agent.projection.comparing import opened
from aisix_cloud_agent.projection.layout import Spot
from aisix_common.secrets.envelope import Keyring
from aisix_common.secrets.keyring_files import KeyringFiles
from aisix_common.settings import load
from aisix_common.store.client import EtcdClient, EtcdOptions

from tests.chaos.cloud_process import CloudProcess
from tests.chaos.load import Tally, callers, changes
from tests.support import provider as providers
from tests.support.gateway import until
from tests.support.managed import Managed, Program, demo_rows, managed

PARTS: Final = ("agent", "proxy", "etcd", "cloud")
QUIET_SECONDS: Final = 60.0
"""How long everything has, once nothing is killed any more, to come to rest."""


@dataclass
class Report:
    """What came of it."""

    kills: Counter[str]
    accepted: int
    events: int
    duplicates: int
    other: Mapping[str, int]
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        killed = ", ".join(f"{part} {count}" for part, count in sorted(self.kills.items()))
        head = f"killed: {killed}; answers: {self.accepted}, events: {self.events} ({self.duplicates} sent twice)"
        return "\n".join([f"{head}; other ends of requests: {dict(self.other)}", *self.problems])


async def chaos(folder: Path, kills: int, seed: int, say: Callable[[str], None]) -> Report:
    """Kill `kills` times in all, every part equally often, in an order and at moments that `seed` decides."""
    chance = random.Random(seed)
    parts = [PARTS[n % len(PARTS)] for n in range(kills)]
    chance.shuffle(parts)
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(providers.running())
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)))
        cloud = CloudProcess(folder / "cloud", http)
        stack.callback(cloud.kill)
        await cloud.start()
        await _fill(cloud, provider.base)
        gateway = await stack.enter_async_context(
            managed(folder / "gateway", _link(cloud, folder), proxies=2, agents=2, more=_more())
        )
        for program in gateway.programs:
            program.start()
        for number in range(len(gateway.proxies)):
            await gateway.serves(proxy=number)
        say("all is up")
        tally = Tally()
        load_tasks = [
            asyncio.ensure_future(callers(gateway, tally, seed)),
            asyncio.ensure_future(changes(cloud, seed)),
        ]
        try:
            for number, part in enumerate(parts, 1):
                await asyncio.sleep(0.1 + 1.2 * chance.random())
                say(f"{number}/{kills}: kill -9 {part}")
                await _kill(part, gateway, cloud, chance)
        finally:
            for task in load_tasks:
                task.cancel()
            ended = await asyncio.gather(*load_tasks, return_exceptions=True)
        say("the last one was killed; waiting for rest")
        problems = [f"the load itself failed: {error!r}" for error in ended if isinstance(error, Exception)]
        problems += await _judge(gateway, cloud, tally)
        state = await cloud.state()
        return Report(Counter(parts), len(tally.accepted), state["events"], state["duplicates"], tally.other, problems)


async def _fill(cloud: CloudProcess, provider_base: str) -> None:
    for kind, rows in demo_rows(provider_base).items():
        for row_id, document in rows.items():
            await cloud.put(kind, row_id, document)


def _link(cloud: CloudProcess, folder: Path) -> Mapping[str, Any]:
    described = cloud.described
    return {
        "cp_base_url": described["url"],
        "bootstrap": {"token_file": described["environments"][0]["token_file"], "ca_pin": described["ca_pin"]},
        "mtls_dir": str(folder / "mtls"),
        "dp_id_file": str(folder / "dp_id"),
        "usage": {"flush_secs": 1},
    }


def _more() -> Mapping[str, Any]:
    return {"upstream": {"timeout_ms": 5000}}


async def _kill(part: str, gateway: Managed, cloud: CloudProcess, chance: random.Random) -> None:
    """Kill one, and start it again after a while."""
    pause = chance.random()
    if part == "cloud":
        await asyncio.to_thread(cloud.kill)
        await asyncio.sleep(pause)
        await cloud.start()
    elif part == "etcd":
        await asyncio.to_thread(gateway.etcd.kill)
        await asyncio.sleep(pause)
        await asyncio.to_thread(gateway.etcd.start)
    else:
        programs: Sequence[Program] = gateway.agents if part == "agent" else gateway.proxies
        program = chance.choice(programs)
        await asyncio.to_thread(program.kill)
        await asyncio.sleep(pause)
        program.start()


async def _judge(gateway: Managed, cloud: CloudProcess, tally: Tally) -> list[str]:
    problems: list[str] = []
    lost: list[str] = []
    differing: list[str] = []

    async def events_are_there() -> bool:
        lost[:] = sorted(tally.accepted - {event["request_id"] for event in await cloud.events()})
        return not lost

    async def rows_are_equal() -> bool:
        differing[:] = await _differing(gateway, cloud)
        return not differing

    for what, found, condition in (
        ("answers without a usage event", lost, events_are_there),
        ("rows that differ", differing, rows_are_equal),
    ):
        if not await _came_true(condition):
            problems.append(f"{len(found)} {what}: {found[:5]}")
    events = await cloud.events()
    if (conflicts := (await cloud.state())["conflicts"]) != 0:
        problems.append(f"{conflicts} events say two things")
    attempts = Counter(event["request_id"] for event in events)
    twice = [request for request in tally.accepted if attempts[request] > 1]
    retried = {event["request_id"] for event in events if event.get("attempt_kind") == "retry"}
    if counted := [request for request in twice if request not in retried]:
        problems.append(f"{len(counted)} answers were counted twice: {counted[:5]}")
    return problems


async def _came_true(condition: Callable[[], Awaitable[bool]]) -> bool:
    try:
        await until(condition, QUIET_SECONDS)
    except AssertionError:
        return False
    return True


async def _differing(gateway: Managed, cloud: CloudProcess) -> list[str]:
    """Keys of rows that are not the same here and in the Cloud, or on one side only."""
    keyring = _keyring(gateway.config)
    wanted = {f"/aisix/{key}": document for key, document in (await cloud.rows()).items()}
    async with EtcdClient(EtcdOptions(endpoints=(gateway.etcd.endpoint,))) as client:
        rows = {row.key: row.value for row in (await client.range("/aisix/")).rows}
    return sorted(
        key
        for key in wanted.keys() | rows.keys()
        if key not in wanted or key not in rows or not _same(key, wanted[key], rows[key], keyring)
    )


def _same(key: str, wanted: Any, row: bytes, keyring: Keyring) -> bool:
    kind, _, row_id = key.removeprefix("/aisix/").partition("/")
    return bool(msgspec.json.decode(opened(Spot(key, kind, row_id), row, keyring)) == wanted)


def _keyring(config: Path) -> Keyring:
    from aisix_common.logs import get_logger

    files = KeyringFiles(load(config, {}).settings.secrets.keyring, {}, get_logger("chaos"))
    files.load()
    return files.keyring
