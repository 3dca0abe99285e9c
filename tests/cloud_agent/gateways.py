"""A gateway's projection between two real etcds: a projector that is started, stopped and killed, over a client of the
local etcd that counts transactions and fails on command."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Self

import pytest

from aisix_cloud_agent.cloud.link import Link
from aisix_cloud_agent.identity.identity import Identity
from aisix_cloud_agent.lead.lead import Lead, LeadLost
from aisix_cloud_agent.projection.comparing import opened
from aisix_cloud_agent.projection.layout import Layout, Spot
from aisix_cloud_agent.projection.projecting import Pace
from aisix_cloud_agent.projection.projector import Projector
from aisix_common.clock import SYSTEM_CLOCK
from aisix_common.errors import StoreRejected, StoreUnavailable
from aisix_common.logs import get_logger
from aisix_common.managed.projected import Marker, epoch_key, projection_key, standing
from aisix_common.metrics import Metrics
from aisix_common.secrets.envelope import Keyring
from aisix_common.settings.control import Managed
from aisix_common.store import etcd_pb2 as pb
from aisix_common.store.client import EtcdClient, EtcdOptions
from aisix_common.store.types import Compare, KeyValue, Operation, TransactionResult
from aisix_common.tasks import TaskOwner

from tests.support.cloud import Cloud
from tests.support.etcd import EtcdServer

KEYRING = Keyring([("k1", b"1" * 32)])
QUICK = Pace(confirm=0.3, foreign=0.2, refused=0.2, look=0.2, first_delay=0.02, longest_delay=0.1)
PATIENT = Pace(confirm=0.3, foreign=0.2, look=60.0, first_delay=0.02, longest_delay=0.1)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
SECONDS = 15.0

Meddle = Callable[[int], Awaitable[str]]
"""By the number of a transaction: what becomes of it. "": nothing special; "lost": it is not done; "unanswered": it is,
but nobody hears of it; "stuck": nothing happens any more; "full": etcd has no room, and refuses all."""


async def nothing(number: int) -> str:
    """Every transaction is done and answered."""
    return ""


def fate(number: int, what: str) -> Meddle:
    """One transaction meets this, all the others nothing."""

    async def meddle(each: int) -> str:
        return what if each == number else ""

    return meddle


class LocalClient(EtcdClient):
    """Of the local etcd."""

    def __init__(self, options: EtcdOptions) -> None:
        super().__init__(options)
        self.transactions: list[tuple[Operation, ...]] = []
        """Those that were committed."""
        self.asked = 0
        self.meddle: Meddle = nothing

    async def txn(
        self, compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation] = ()
    ) -> TransactionResult:
        number, self.asked = self.asked, self.asked + 1
        what = await self.meddle(number)
        if what == "stuck":
            await asyncio.Event().wait()
        if what == "full":
            raise StoreRejected("the test has no room")
        if what == "lost":
            raise StoreUnavailable("the test let it get lost")
        result = await super().txn(compare, success, failure)
        if result.succeeded:
            self.transactions.append(tuple(success))
        if what == "unanswered":
            raise StoreUnavailable("the test let its answer get lost")
        return result

    @property
    def written(self) -> int:
        """Operations on rows, but for those of the agent's own."""
        return sum("/run/aisix/" not in each.key for operations in self.transactions for each in operations)


class CloudClient(EtcdClient):
    """Of the Cloud's etcd, which may give no rows while its watches go on."""

    unlisted = False

    async def read(self, request: pb.RangeRequest, *, patient: bool = True) -> pb.RangeResponse:
        if self.unlisted:
            raise StoreUnavailable("the test lets nobody read")
        return await super().read(request, patient=patient)


class SessionOfEtcd:
    """A session with the Cloud that has nothing but its etcd."""

    def __init__(self, env_id: str, etcd: EtcdClient) -> None:
        self.identity = Identity(env_id, "dp", NOW, NOW + timedelta(days=1), "1", "")
        self.etcd = etcd

    async def heartbeat(self, body: bytes) -> None:
        raise AssertionError

    async def telemetry(self, body: bytes) -> None:
        raise AssertionError

    async def budget(self, api_key_id: str) -> bytes:
        raise AssertionError

    async def aclose(self) -> None:
        await self.etcd.aclose()


class Gateway:
    """A local etcd with roots of its own, and the projection of one environment into it."""

    def __init__(self, cloud: Cloud, server: EtcdServer, env_id: str, root: str) -> None:
        self.cloud = cloud
        self.layout = Layout(env_id, f"{root}/aisix", f"{root}/ext/aisix", f"{root}/run/aisix")
        self.options = EtcdOptions(endpoints=(server.endpoint,), request_timeout=3.0)
        self.client = LocalClient(self.options)
        self.link = Link()
        self.managed = Managed()
        self.pace = PATIENT
        self.allow_plaintext = False
        self.keys = KEYRING
        self.metrics = Metrics()
        self.task: asyncio.Task[None] | None = None
        self.owner = TaskOwner()
        self.sessions: list[SessionOfEtcd] = []

    def connect(self, env_id: str = "") -> SessionOfEtcd:
        """A new certificate is in force."""
        env_id = env_id or self.layout.env_id
        options = EtcdOptions(
            endpoints=(f"https://{self.cloud.endpoint}",), tls=self.cloud.issue(env_id).material(), request_timeout=3.0
        )
        session = SessionOfEtcd(env_id, CloudClient(options))
        self.sessions.append(session)
        self.link.use(session)
        return session

    async def win(self) -> Lead:
        """The lead is ours from now on."""
        return Lead(await self.client.put(epoch_key(self.layout.run), uuid.uuid4().bytes), lambda: True)

    async def start(self, lead: Lead | None = None) -> Self:
        """An agent that leads."""
        if self.link.session is None:
            self.connect()
        lead = lead or await self.win()
        self.metrics = Metrics()
        self.projector = Projector(
            self.client,
            self.layout,
            lambda: self.keys,
            self.managed,
            allow_plaintext=self.allow_plaintext,
            clock=SYSTEM_CLOCK,
            log=get_logger("test"),
            metrics=self.metrics,
            pace=self.pace,
        )
        self.task = self.owner.spawn(self.projector.run(self.link, lead), name="projector")
        return self

    async def kill(self) -> None:
        """It ends wherever it is; what follows is another process, with a client of its own."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait({self.task}, timeout=5)
        self.task = None
        for session in self.sessions:
            await session.aclose()
        self.sessions.clear()
        self.link = Link()
        await self.client.aclose()
        self.client = LocalClient(self.options)

    async def rows(self) -> dict[str, KeyValue]:
        """What lies under the local roots."""
        found = [await self.client.range(prefix) for prefix in self.layout.local_prefixes]
        return {row.key: row for each in found for row in each.rows}

    async def marker(self) -> Marker | None:
        """What the projection row says of the Cloud."""
        marker = standing(await self.client.get(projection_key(self.layout.run))).marker
        return marker.bare if marker is not None else None

    async def differences(self) -> dict[str, tuple[bytes | None, bytes | None]]:
        """Local rows that are not the Cloud's (there, here), opened."""
        there: dict[str, bytes] = {}
        for row in await self.cloud.rows(self.layout.env_id):
            spot = self.layout.spot(row.key)
            if isinstance(spot, Spot):
                there[spot.key] = opened(spot, row.value, self.keys)
        here = {}
        for key, row in (await self.rows()).items():
            kind, _, id = (
                key.removeprefix(self.layout.resources + "/").removeprefix(self.layout.ext + "/").partition("/")
            )
            here[key] = opened(Spot(key, kind, id), row.value, self.keys)
        keys = {*there, *here}
        return {key: (there.get(key), here.get(key)) for key in keys if there.get(key) != here.get(key)}

    async def same(self) -> None:
        """Wait until the local rows are the Cloud's, and that is said."""

        async def so() -> bool:
            marker = await self.marker()
            return marker is not None and marker.state == "done" and not await self.differences()

        await self.until(so)

    async def at(self, revision: int) -> None:
        """Wait until this revision of the Cloud is projected."""

        async def so() -> bool:
            marker = await self.marker()
            return marker is not None and marker.state == "done" and marker.cloud_revision >= revision

        await self.until(so)

    async def until(self, so: Callable[[], object]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(SECONDS):
            while True:
                found = so()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return
                assert self.task is None or not self.task.done(), "the projector ended"
                await asyncio.sleep(0.01)

    async def lost(self) -> None:
        """The projector ends, as its lead was lost."""
        assert self.task is not None
        with pytest.raises(LeadLost):
            await asyncio.wait_for(self.task, SECONDS)

    def number(self, name: str, *labels: str) -> float:
        """A metric's value."""
        (family,) = [family for family in self.metrics.collect() if family.name == name]
        (value,) = [sample.value for sample in family.samples if sample.labels == labels]
        return value

    async def close(self) -> None:
        """End everything."""
        await self.kill()
        await self.client.aclose()
        await self.owner.close()


@asynccontextmanager
async def gateway(cloud: Cloud, server: EtcdServer, env_id: str = "") -> AsyncIterator[Gateway]:
    """One while the context lasts; the rows of its environment in the Cloud go before and after it."""
    env_id = env_id or cloud.a
    await cloud.wipe(env_id)
    made = Gateway(cloud, server, env_id, f"/gw-{uuid.uuid4().hex[:12]}")
    try:
        yield made
    finally:
        await made.close()
