"""What holds the projection up - suspicious lists, rows of others, another keyring, a local etcd that lost its rows -
and how it goes on."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from aisix_common.managed.projected import Marker, epoch_key, marker_row, projection_key
from aisix_common.secrets.canary import canary_key, canary_row
from aisix_common.secrets.envelope import NO_KEYRING, Keyring
from aisix_common.settings.control import Managed

from tests.cloud_agent.gateways import KEYRING, QUICK, CloudClient, Gateway, gateway
from tests.support.cloud import Cloud, cloud
from tests.support.etcd import EtcdServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLER = {"key_hash": "h", "allowed_models": ["*"]}
KEY = {"display_name": "k", "api_key": "sk-canary"}
OTHER_KEYRING = Keyring([("k2", b"2" * 32)])
LONG = replace(QUICK, confirm=60.0, look=60.0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def there(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cloud]:
    """One Cloud for all tests here."""
    async with cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def here(there: Cloud, etcd: EtcdServer) -> AsyncIterator[Gateway]:
    async with gateway(there, etcd) as made:
        made.pace = QUICK
        yield made


async def callers(there: Cloud, count: int) -> int:
    """So many callers in the Cloud; the last revision."""
    return await there.put_many(there.a, "api_keys", {f"{n:04}": CALLER for n in range(count)})


def alarms(here: Gateway) -> dict[str, str]:
    return {str(alarm): text for alarm, text in here.projector.status().alarms}


async def test_a_list_that_takes_away_much_is_believed_the_second_time(there: Cloud, here: Gateway) -> None:
    await callers(there, 30)
    await here.start()
    await here.same()
    await here.kill()
    for n in range(20):
        await there.delete(there.a, "api_keys", f"{n:04}")
    await here.start()
    await here.until(lambda: "shrink" in alarms(here))
    assert here.number("aisix_cloud_projection_held", "shrink") == 1
    assert len(await here.rows()) == 30
    await here.same()
    assert len(await here.rows()) == 10
    assert alarms(here) == {}


async def test_what_a_watch_deletes_is_gone_at_once_even_then(there: Cloud, here: Gateway) -> None:
    await callers(there, 30)
    await here.start()
    await here.same()
    marker = await here.marker()
    await here.kill()
    for n in range(20):
        await there.delete(there.a, "api_keys", f"{n:04}")
    here.pace = LONG
    await here.start()
    await here.until(lambda: "shrink" in alarms(here))
    await there.put(there.a, "api_keys", "0025", {**CALLER, "display_name": "waits"})
    await there.delete(there.a, "api_keys", "0029")
    key = f"{here.layout.resources}/api_keys/0029"

    async def gone() -> bool:
        return key not in await here.rows()

    await here.until(gone)
    assert len(await here.rows()) == 29
    assert await here.marker() == marker


async def test_revocations_of_a_watch_are_never_held(there: Cloud, here: Gateway) -> None:
    await callers(there, 30)
    here.pace = LONG
    await here.start()
    await here.same()
    await there.wipe(there.a)
    await here.same()
    assert await here.rows() == {}


async def test_a_revocation_is_not_late_where_the_local_etcd_is_full(there: Cloud, here: Gateway) -> None:
    await callers(there, 30)
    here.pace = replace(QUICK, refused=60.0)
    await here.start()
    await here.same()

    async def full(number: int) -> str:
        return "full"

    async def left() -> set[str]:
        return {key.rpartition("/")[2] for key in await here.rows()}

    here.client.meddle = full
    await there.delete(there.a, "api_keys", "0000")
    await here.until(lambda: here.projector.status().trouble)

    async def gone() -> bool:
        return not {"0000", "0029"} & await left()

    await there.put(there.a, "api_keys", "0001", {**CALLER, "display_name": "waits"})
    await there.delete(there.a, "api_keys", "0029")
    await here.until(gone)
    assert len(await left()) == 28


async def test_a_full_local_etcd_is_tried_again(there: Cloud, here: Gateway) -> None:
    await callers(there, 3)
    await here.start()
    await here.same()
    first = here.client.asked

    async def full(number: int) -> str:
        return "full" if number < first + 3 else ""

    here.client.meddle = full
    await there.put(there.a, "api_keys", "0001", {**CALLER, "display_name": "new"})
    await here.until(lambda: here.projector.status().trouble.startswith("local etcd: "))
    await here.same()
    assert here.projector.status().trouble == ""


async def test_a_revocation_is_not_late_where_the_cloud_gives_no_list(there: Cloud, here: Gateway) -> None:
    await callers(there, 30)
    await here.start()
    await here.same()
    etcd = here.sessions[-1].etcd
    assert isinstance(etcd, CloudClient)
    etcd.unlisted = True
    here.keys = Keyring([("k2", b"2" * 32), ("k1", b"1" * 32)])  # a reason to want a list
    await here.until(lambda: "nobody read" in here.projector.status().trouble)
    await there.delete(there.a, "api_keys", "0029")
    key = f"{here.layout.resources}/api_keys/0029"

    async def gone() -> bool:
        return key not in await here.rows()

    await here.until(gone)
    await there.put(there.a, "api_keys", "0001", {**CALLER, "display_name": "new"})
    etcd.unlisted = False
    await here.same()


@pytest.mark.parametrize("how", ["restored", "replaced"])
async def test_a_cloud_that_went_back_is_believed_the_second_time(there: Cloud, here: Gateway, how: str) -> None:
    await callers(there, 5)
    await there.snapshot("before")
    await there.put(there.a, "api_keys", "new", CALLER)
    await here.start()
    await here.same()
    rows = await here.rows()
    await (there.restore("before") if how == "restored" else there.replace())
    await here.until(lambda: "shrink" in alarms(here))
    assert await here.rows() == rows
    await here.same()
    assert len(await here.rows()) == (5 if how == "restored" else 0)
    revision = await callers(there, 3)
    await here.at(revision)
    await here.same()


async def foreign(here: Gateway, env_id: str) -> str:
    """A row that was projected by another environment; its key."""
    key = f"{here.layout.resources}/models/theirs"
    await here.client.put(key, b"{}")
    if env_id:
        await here.client.put(projection_key(here.layout.run), marker_row(Marker(env_id, 7, "done")))
    return key


@pytest.mark.parametrize("whose", ["another's", "nobody's"])
async def test_rows_of_others_are_not_touched(there: Cloud, here: Gateway, whose: str) -> None:
    env_id = there.b if whose == "another's" else ""
    await callers(there, 3)
    key = await foreign(here, env_id)
    await here.start()
    await here.until(lambda: "environment" in alarms(here))
    assert env_id in alarms(here)["environment"]
    await there.delete(there.a, "api_keys", "0001")
    assert list(await here.rows()) == [key]
    assert here.client.transactions == []
    await here.client.delete(key)
    await here.client.delete(projection_key(here.layout.run))
    await here.same()  # once they are gone
    assert alarms(here) == {}


async def test_but_are_taken_over_where_that_is_wanted(there: Cloud, here: Gateway) -> None:
    await callers(there, 3)
    await foreign(here, there.b)
    here.managed = Managed(takeover=True)
    await here.start()
    await here.same()
    assert len(await here.rows()) == 3


async def test_without_a_keyring_no_secret_is_projected_until_there_is_one(there: Cloud, here: Gateway) -> None:
    here.keys = NO_KEYRING
    await callers(there, 3)
    await there.put(there.a, "provider_keys", "pk", KEY)
    await here.start()
    await here.at(await there.revision())
    status = here.projector.status()
    assert [each.key for each in status.refused] == [f"/aisix/{there.a}/provider_keys/pk"]
    assert "secrets.keyring" in status.refused[0].reason
    assert len(await here.rows()) == 3
    here.keys = KEYRING
    await here.same()
    assert here.projector.status().refused_rows == 0
    assert here.client.written == 4


async def test_another_keyring_than_everybodys_seals_nothing(there: Cloud, here: Gateway) -> None:
    await callers(there, 3)
    await here.client.put(canary_key(here.layout.run), canary_row(OTHER_KEYRING))
    await there.put(there.a, "provider_keys", "pk", KEY)
    await here.start()
    await here.until(lambda: "keyring" in alarms(here))
    await here.at(await there.put(there.a, "api_keys", "0001", {**CALLER, "display_name": "goes on"}))
    await there.put(there.a, "provider_keys", "pk", {**KEY, "display_name": "new"})
    await here.at(await there.revision())
    assert len(await here.rows()) == 3
    assert "k2" in here.projector.status().refused[0].reason
    await here.client.put(canary_key(here.layout.run), canary_row(KEYRING))
    await here.same()
    assert alarms(here) == {}


async def test_a_new_first_key_rewrites_nothing_and_seals_from_then_on(there: Cloud, here: Gateway) -> None:
    await there.put(there.a, "provider_keys", "old", KEY)
    await here.start()
    await here.same()
    here.keys = Keyring([("k2", b"2" * 32), ("k1", b"1" * 32)])
    await here.at(await there.put(there.a, "provider_keys", "new", KEY))
    await here.same()
    rows = {key.rpartition("/")[2]: row.value for key, row in (await here.rows()).items()}
    assert b"enc:v1:k1:" in rows["old"]
    assert b"enc:v1:k2:" in rows["new"]
    assert here.client.written == 2


async def test_a_local_etcd_that_lost_everything_is_filled_again(there: Cloud, here: Gateway) -> None:
    await callers(there, 3)
    await here.start()
    await here.same()
    for prefix in (*here.layout.local_prefixes, projection_key(here.layout.run)):
        await here.client.delete(prefix, prefix=True)
    await here.same()
    assert here.client.written == 6
    await here.client.delete(epoch_key(here.layout.run))
    await here.lost()
