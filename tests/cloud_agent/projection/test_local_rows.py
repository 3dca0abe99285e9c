"""The local etcd under the fence of the lead."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import json

from aisix_cloud_agent.lead.lead import Lead, LeadLost
from aisix_cloud_agent.projection.layout import Layout
from aisix_cloud_agent.projection.local_rows import Conflict, Ground, LocalRows
from aisix_cloud_agent.projection.metrics import ProjectionMetrics
from aisix_cloud_agent.projection.planning import Plan, Rules, plan_listing
from aisix_common.clock import SYSTEM_CLOCK
from aisix_common.errors import StoreRejected
from aisix_common.logs import get_logger
from aisix_common.managed.projected import epoch_key, projection_key
from aisix_common.metrics import Metrics
from aisix_common.secrets.canary import canary_key, canary_row
from aisix_common.secrets.envelope import NO_KEYRING, Keyring
from aisix_common.store.client import EtcdOptions
from aisix_common.store.types import KeyValue, Listing

from tests.cloud_agent.gateways import KEYRING, LocalClient
from tests.cloud_agent.local_etcd import ENV
from tests.support.etcd import EtcdServer

KEY = {"display_name": "k", "api_key": "sk-canary"}


class Place:
    """Roots in a real etcd, and a leader."""

    def __init__(self, client: LocalClient, root: str) -> None:
        self.client = client
        self.layout = Layout(ENV, f"{root}/aisix", f"{root}/ext/aisix", f"{root}/run/aisix")
        self.metrics = ProjectionMetrics(Metrics(), SYSTEM_CLOCK, get_logger("test"), lambda: 0.0)

    async def leader(self) -> LocalRows:
        """Whoever leads from now on."""
        epoch = await self.client.put(epoch_key(self.layout.run), b"e")
        return LocalRows(self.client, self.layout, Lead(epoch, lambda: True), self.metrics)

    def plan(self, ground: Ground, rows: int, document: Any = None, revision: int = 9) -> Plan:
        """Of a Cloud with so many rows and an empty etcd here."""
        raw = json.encode(document or KEY)
        cloud = tuple(KeyValue(f"/aisix/{ENV}/provider_keys/{n}", raw, 5, 5) for n in range(rows))
        made = plan_listing(
            Listing(cloud, revision), Listing((), 1), ground.standing, Rules(self.layout, ground.keyring)
        )
        assert isinstance(made, Plan)
        return made


@pytest.fixture
async def place(etcd: EtcdServer, etcd_prefix: str) -> AsyncIterator[Place]:
    async with LocalClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client:
        yield Place(client, etcd_prefix)


async def all_rows(leader: LocalRows) -> list[str]:
    return [row.key.rpartition("/")[2] async for rows in leader.pages() for row in rows]


async def test_what_was_committed_is_what_is_read(place: Place) -> None:
    leader = await place.leader()
    ground = await leader.ground(KEYRING)
    assert ground == Ground(ground.standing, KEYRING)
    assert ground.standing.revision == 0
    for rows in (3, 250):
        after = await leader.commit(place.plan(ground, rows, revision=rows), ground)
        assert after == await leader.ground(KEYRING)
        assert after.canary
        ground = after
    assert len(await all_rows(leader)) == 250
    key = f"{place.layout.resources}/provider_keys/7"
    assert list(await leader.rows([key, key + "-not"])) == [key]
    assert len(await leader.rows(f"{place.layout.resources}/provider_keys/{n}" for n in range(300))) == 250


async def test_the_canary_row_is_made_once_and_only_for_secrets(place: Place) -> None:
    leader = await place.leader()
    ground = await leader.ground(KEYRING)
    ground = await leader.commit(place.plan(ground, 1, {"display_name": "no secret"}), ground)
    assert await place.client.get(canary_key(place.layout.run)) is None
    ground = await leader.commit(place.plan(ground, 1), ground)
    first = await place.client.get(canary_key(place.layout.run))
    assert first is not None and first.mod_revision == ground.canary
    await leader.commit(place.plan(ground, 2), ground)
    assert await place.client.get(canary_key(place.layout.run)) == first


@pytest.mark.parametrize(
    ("keyring", "reason"),
    [
        (KEYRING, ""),
        (Keyring([("k2", b"2" * 32), ("k1", b"1" * 32)]), ""),
        (Keyring([("k2", b"2" * 32)]), "add that key"),
        (Keyring([("k1", b"2" * 32)]), "another one"),
        (NO_KEYRING, ""),
    ],
)
async def test_another_keyring_than_everybodys_cannot_seal(place: Place, keyring: Keyring, reason: str) -> None:
    await place.client.put(canary_key(place.layout.run), canary_row(KEYRING))
    ground = await (await place.leader()).ground(keyring)
    assert reason in ground.cannot_seal
    assert bool(ground.cannot_seal) == bool(reason)


@pytest.mark.parametrize("change", ["projection", "canary"])
async def test_what_is_not_as_it_was_read_is_a_conflict(place: Place, change: str) -> None:
    leader = await place.leader()
    ground = await leader.ground(KEYRING)
    ground = await leader.commit(place.plan(ground, 1), ground)
    key = projection_key(place.layout.run) if change == "projection" else canary_key(place.layout.run)
    await place.client.put(key, b"somebody else's")
    with pytest.raises(Conflict):
        await leader.commit(place.plan(ground, 2), ground)
    assert await all_rows(leader) == ["0"]


async def test_after_another_has_won_nothing_is_done(place: Place) -> None:
    leader = await place.leader()
    ground = await leader.ground(KEYRING)
    ground = await leader.commit(place.plan(ground, 1), ground)
    await place.leader()
    with pytest.raises(LeadLost):
        await leader.commit(place.plan(ground, 2), ground)
    with pytest.raises(LeadLost):
        await leader.remove([f"{place.layout.resources}/provider_keys/0"])
    with pytest.raises(LeadLost):
        await leader.ground(KEYRING)
    assert await all_rows(leader) == ["0"]


async def test_rows_are_removed_beside_any_plan(place: Place) -> None:
    leader = await place.leader()
    ground = await leader.ground(KEYRING)
    ground = await leader.commit(place.plan(ground, 150), ground)
    keys = [f"{place.layout.resources}/provider_keys/{n}" for n in range(149)]
    assert await leader.remove([*keys, f"{place.layout.resources}/models/none"]) == 149
    assert await all_rows(leader) == ["149"]
    assert await leader.ground(KEYRING) == ground


async def test_rows_are_removed_from_an_etcd_that_is_full(tmp_path: Path) -> None:
    with EtcdServer(tmp_path, arguments=("--quota-backend-bytes", "1000000")) as small:
        async with LocalClient(EtcdOptions(endpoints=(small.endpoint,))) as client:
            place = Place(client, "")
            leader = await place.leader()
            ground = await leader.commit(place.plan(await leader.ground(KEYRING), 2), await leader.ground(KEYRING))
            with pytest.raises(StoreRejected):
                for _ in range(500):  # etcd looks at its size ten times a second
                    await client.put("/ballast", b"x" * 300_000)
            with pytest.raises(StoreRejected):
                await leader.commit(place.plan(ground, 3), ground)
            assert await leader.remove(["/aisix/provider_keys/1"]) == 1
            assert await all_rows(leader) == ["0"]
            await client.delete(epoch_key(place.layout.run))
            with pytest.raises(LeadLost):
                await leader.remove(["/aisix/provider_keys/0"])
            assert await all_rows(leader) == ["0"]
