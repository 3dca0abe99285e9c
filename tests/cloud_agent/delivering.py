"""What tests of the agent's deliveries stand on: the Cloud's REST side, a session with it, a real etcd, and time that
only goes on when a test says so."""

import asyncio
import datetime as dt
import json
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from aisix_cloud_agent.cloud.link import Link
from aisix_cloud_agent.cloud.session import open_session
from aisix_cloud_agent.identity.bundle import Bundle
from aisix_cloud_agent.identity.identity import identify
from aisix_cloud_agent.lead.lead import Lead
from aisix_common.clock import SYSTEM_CLOCK
from aisix_common.logs import Logger
from aisix_common.managed.projected import epoch_key
from aisix_common.metrics import Metrics
from aisix_common.secret import Secret
from aisix_common.settings.control import Managed
from aisix_common.store.client import EtcdClient, EtcdOptions

from tests.support.cloud.endpoints import Endpoints, server_context
from tests.support.cloud.enrolment import Enrolment
from tests.support.cloud.issuer import Issuer, private_pem
from tests.support.cloud.ledger import Ledger
from tests.support.doubles import listening
from tests.support.etcd import EtcdServer

ENV: Final = "0b8f5a52-7c0d-4a39-9a55-3f4f8f3b7f11"
NOON: Final = dt.datetime(2026, 6, 15, 12, tzinfo=dt.UTC)
_PATIENCE: Final = 20.0
"""Real seconds until a test gives up."""


class HandTime:
    """Time that goes on by `advance`, and by `until` step by step; the wall clock goes with it."""

    def __init__(self) -> None:
        self.passed = 0.0

    def monotonic(self) -> float:
        return 1000.0 + self.passed

    def now(self) -> dt.datetime:
        return NOON + dt.timedelta(seconds=self.passed)

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        end = self.passed + seconds
        while not event.is_set() and self.passed < end:
            try:
                async with asyncio.timeout(0.001):
                    await event.wait()
            except TimeoutError:
                pass

    def advance(self, seconds: float) -> None:
        self.passed += seconds

    async def until(self, happened: Callable[[], bool], *, step: float = 0.0) -> None:
        """Wait until it happened; `step` seconds pass each time it is looked at."""
        end = asyncio.get_running_loop().time() + _PATIENCE
        while not happened():
            assert asyncio.get_running_loop().time() < end, "it did not happen"
            await asyncio.sleep(0.001)
            self.passed += step

    async def go(self, seconds: float, step: float = 0.5) -> None:
        """Let so much time pass, with room for what happens meanwhile."""
        end = self.passed + seconds
        while self.passed < end:
            self.passed += min(step, end - self.passed)
            await asyncio.sleep(0.002)


def events(*request_ids: str, at: dt.datetime = NOON) -> list[bytes]:
    """Usage events as a proxy writes them."""
    return [json.dumps(event(request_id, at)).encode() for request_id in request_ids]


def event(request_id: str, at: dt.datetime = NOON) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "occurred_at": at.isoformat().replace("+00:00", "Z"),
        "model_id": "m",
        "api_key_id": "k",
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "upstream_latency_ms": 3,
        "status_code": 200,
        "cost_usd": 0,
        "guardrail_blocked": False,
        "attempt_index": 0,
    }


def poison(request_id: str) -> bytes:
    """An event that the Cloud refuses."""
    return json.dumps({"request_id": request_id, "occurred_at": "2026-06-15T12:00:00Z"}).encode()


@dataclass
class Kit:
    """Everything."""

    dp: Endpoints
    ledger: Ledger
    link: Link
    local: EtcdClient
    run_root: str
    lead: Lead
    time: HandTime = field(default_factory=HandTime)
    metrics: Metrics = field(default_factory=Metrics)
    lines: structlog.testing.LogCapture = field(default_factory=structlog.testing.LogCapture)
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    held: bool = True

    @property
    def log(self) -> Logger:
        logger: Logger = structlog.wrap_logger(None, processors=[self.lines])
        return logger

    @property
    def arrived(self) -> list[str]:
        """Request ids in the order in which the Cloud has them."""
        return [request_id for request_id, _ in self.ledger.events]

    def told(self, text: str) -> list[Mapping[str, Any]]:
        """Log lines with that in their text."""
        return [line for line in self.lines.entries if text in str(line["event"])]

    def calls(self, path: str) -> int:
        return sum(count for (called, _), count in self.dp.calls.items() if called == path)

    def numbers(self) -> dict[str, float]:
        """All metrics: `name{value,value}`."""
        return {
            f"{family.name}{{{','.join(sample.labels)}}}": sample.value
            for family in self.metrics.collect()
            for sample in family.samples
        }

    async def another_leads(self) -> None:
        """Somebody else has won."""
        await self.local.put(epoch_key(self.run_root), b"another")

    async def keys(self) -> Sequence[str]:
        """What lies under the run root, but for the epoch."""
        rows = (await self.local.range(f"{self.run_root}/")).rows
        return [row.key.removeprefix(f"{self.run_root}/") for row in rows if row.key != epoch_key(self.run_root)]


@asynccontextmanager
async def kit(etcd: EtcdServer, run_root: str, folder: Path) -> AsyncIterator[Kit]:
    """It, while the context lasts. The Cloud knows one certificate, which is in force."""
    issuer = Issuer(folder / "authority")
    ledger = Ledger(folder / "events.jsonl")
    dp = Endpoints(issuer, Enrolment(issuer, SYSTEM_CLOCK.now, {}), ledger, lambda: None)
    dp.environments = frozenset({ENV})
    key = ec.generate_private_key(ec.SECP256R1())
    signed, _ = issuer.sign(key.public_key(), ENV, "dp-7")
    bundle = Bundle(signed, Secret(private_pem(key)), issuer.ca)
    identity = identify(bundle.certificate, bundle.key, bundle.ca, SYSTEM_CLOCK.now())
    async with (
        listening(dp.app(), server_context(issuer, issuer.server(folder, "server"))) as port,
        EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as local,
    ):
        session = open_session(Managed(enabled=True, cp_base_url=f"https://127.0.0.1:{port}"), bundle, identity)
        try:
            link = Link()
            link.use(session)
            epoch = await local.put(epoch_key(run_root), b"mine")
            made = Kit(dp, ledger, link, local, run_root, Lead(epoch, lambda: made.held))
            yield made
        finally:
            await session.aclose()


@asynccontextmanager
async def running(flow: Coroutine[Any, Any, Any]) -> AsyncIterator["asyncio.Task[Any]"]:
    """A flow in the background; it has ended when the context is left."""
    task = asyncio.create_task(flow)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
