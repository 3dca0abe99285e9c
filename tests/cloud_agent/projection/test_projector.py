"""The projection between two real etcds: whole, at once, nothing twice, exact after any crash."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from aisix_cloud_agent.lead.lead import Lead
from aisix_common.managed.projected import Marker
from aisix_common.store.types import Put

from tests.cloud_agent.gateways import QUICK, Gateway, fate, gateway
from tests.support.cloud import Cloud, Lane, cloud
from tests.support.etcd import EtcdServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLER = {"key_hash": "h", "allowed_models": ["*"]}
KEY = {"display_name": "k", "api_key": "sk-canary"}
MODEL = {"display_name": "gpt", "provider": "openai", "model_name": "m", "provider_key_id": "pk"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def there(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cloud]:
    """One Cloud for all tests here; never stopped for good."""
    async with cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def here(there: Cloud, etcd: EtcdServer) -> AsyncIterator[Gateway]:
    async with gateway(there, etcd) as made:
        yield made


async def test_first_projection_change_and_delete(there: Cloud, here: Gateway) -> None:
    await there.put(there.a, "provider_keys", "pk", KEY)
    await there.put(there.a, "models", "m", MODEL)
    await there.put(there.a, "secret_providers", "v", {"manager": "vault", "options": {"address": "https://v"}})
    await there.put(there.b, "models", "not-ours", MODEL)
    await here.start()
    await here.same()
    rows = await here.rows()
    assert {key.removeprefix(here.layout.resources[: -len("/aisix")]) for key in rows} == {
        "/aisix/provider_keys/pk",
        "/aisix/models/m",
        "/ext/aisix/secret_providers/v",
    }
    assert b"sk-canary" not in b"".join(row.value for row in rows.values())
    revision = await there.put(there.a, "models", "m", {**MODEL, "model_name": "m2"})
    await here.at(revision)
    await here.same()
    await there.delete(there.a, "models", "m")
    await here.at(revision + 1)
    await here.same()
    status = here.projector.status()
    assert (status.connected, status.rows, status.cloud_revision, status.alarms) == (True, 2, revision + 1, ())
    assert here.number("aisix_cloud_projected_rows") == 2
    assert here.link.worked.is_set()
    await there.wipe(there.b)


async def callers(there: Cloud, count: int, start: int = 0) -> int:
    """So many callers in the Cloud; the last revision."""
    return await there.put_many(there.a, "api_keys", {f"{n:04}": CALLER for n in range(start, start + count)})


async def test_nothing_unchanged_is_written_again(there: Cloud, here: Gateway) -> None:
    await callers(there, 120)
    await there.put(there.a, "provider_keys", "pk", KEY)
    await here.start()
    await here.same()
    assert here.client.written == 121
    await here.kill()
    await there.put(there.b, "models", "not-ours", MODEL)
    await there.compact()
    await here.start()
    await here.at(await there.revision())
    assert here.client.written == 0
    assert len(here.client.transactions) == 1  # the projection row
    await there.wipe(there.b)


async def test_a_large_revision_stands_between_markers(there: Cloud, here: Gateway) -> None:
    await callers(there, 1)
    await here.start()
    await here.same()
    before = len(here.client.transactions)
    revision = await callers(there, 100, start=1)
    await here.at(revision)
    await here.same()
    states = [b'"applying"' in last.value for *_, last in here.client.transactions[before:] if isinstance(last, Put)]
    assert states == [True, True, True, False]
    assert here.client.written == 101


@pytest.mark.parametrize("what", ["stuck", "lost", "unanswered"])
async def test_it_goes_on_exactly_from_wherever_it_stopped(there: Cloud, here: Gateway, what: str) -> None:
    revision = await callers(there, 150)
    await there.put(there.a, "provider_keys", "pk", KEY)
    for number in range(5):  # the announcement, the canary, two chunks, the end
        await here.client.delete(here.layout.resources.removesuffix("/aisix"), prefix=True)
        here.client.meddle = fate(number, what)
        await here.start()
        if what == "stuck":
            client = here.client
            while client.asked <= number:
                await asyncio.sleep(0.01)
            done = here.client.written
            if number:
                marker = await here.marker()
                assert marker is not None and marker.state == "applying"
            await here.kill()
            await here.start()
        else:
            done = 0
        await here.same()
        assert done + here.client.written == 151, "nothing is written twice"
        assert (await here.marker()) == Marker(there.a, revision + 1, "done")
        await here.kill()


async def test_a_change_whose_answer_is_lost_is_done_once(there: Cloud, here: Gateway) -> None:
    await callers(there, 3)
    await here.start()
    await here.same()
    for what in ("lost", "unanswered"):
        here.client.meddle = fate(here.client.asked, what)
        written = here.client.written
        await here.at(await there.put(there.a, "api_keys", "0001", {**CALLER, "display_name": what}))
        await here.same()
        assert here.client.written == written + 1
    assert here.number("aisix_cloud_projection_transactions_total", "failed") == 2


async def test_who_lost_the_lead_writes_not_one_row_more(there: Cloud, here: Gateway) -> None:
    await callers(there, 150)

    async def steal(number: int) -> str:
        if number == 2:
            await here.win()
        return ""

    here.client.meddle = steal
    await here.start()
    await here.lost()
    assert here.client.written == 99
    assert len(await here.rows()) == 99
    assert not here.projector.status().connected


async def test_nor_who_cannot_be_sure_of_it(there: Cloud, here: Gateway) -> None:
    await callers(there, 3)
    holds = True
    lead = await here.win()
    await here.start(Lead(lead.epoch, lambda: holds))
    await here.same()
    holds = False
    await there.put(there.a, "api_keys", "0001", {**CALLER, "display_name": "new"})
    await here.lost()
    assert here.client.written == 3


async def test_a_lead_that_is_lost_while_nothing_changes_is_noticed(there: Cloud, here: Gateway) -> None:
    here.pace = QUICK
    await callers(there, 3)
    await here.start()
    await here.same()
    await here.win()
    await here.lost()


@pytest.mark.parametrize("how", ["refuse", "garble"])
async def test_a_cloud_that_is_away_or_talks_nonsense_changes_nothing(there: Cloud, here: Gateway, how: str) -> None:
    await callers(there, 30)
    await here.start()
    await here.same()
    transactions = len(here.client.transactions)
    if how == "refuse":
        await there.front.refuse()
    else:
        there.front.garble(Lane.ETCD)
    try:
        await here.until(lambda: not here.projector.status().connected)
        assert here.projector.status().trouble.startswith("Cloud: ")
        await there.delete(there.a, "api_keys", "0001")
        revision = await there.put(there.a, "api_keys", "0002", {**CALLER, "display_name": "new"})
        if how == "refuse":
            await there.compact()
        assert len(await here.rows()) == 30
        assert len(here.client.transactions) == transactions
    finally:
        await there.front.heal()
    await here.at(revision)
    await here.same()
    assert here.client.written == 32
    await here.until(lambda: here.projector.status().connected)


async def test_it_starts_without_a_cloud_and_tells_so(there: Cloud, here: Gateway) -> None:
    await callers(there, 3)
    await there.front.refuse()
    try:
        await here.start()
        await here.until(lambda: here.projector.status().trouble)
        assert not here.link.worked.is_set()
    finally:
        await there.front.heal()
    await here.same()
    assert here.link.worked.is_set()


async def test_another_certificate_is_followed_at_once(there: Cloud, here: Gateway) -> None:
    await callers(there, 3)
    await here.start()
    await here.same()
    old = here.link.session
    new = here.connect()
    await here.until(here.link.worked.is_set)
    assert old is not None
    await old.aclose()
    await here.at(await there.put(there.a, "api_keys", "0009", CALLER))
    assert here.link.session is new
    assert here.client.written == 4


async def test_a_certificate_of_another_environment_touches_no_row(there: Cloud, here: Gateway) -> None:
    await callers(there, 2)
    await here.start()
    await here.until(lambda: here.projector.status().rows == 2)
    before = await here.rows()
    await there.put(there.b, "models", "not-ours", MODEL)
    here.connect(there.b)
    await here.until(lambda: any(alarm == "environment" for alarm, _ in here.projector.status().alarms))
    assert await here.rows() == before
    await there.wipe(there.b)


async def test_a_cloud_that_denies_the_ext_root_is_projected_without_it(there: Cloud, here: Gateway) -> None:
    root = f"/ext/aisix/{there.a}/"
    await callers(there, 2)
    await here.client.put(f"{here.layout.ext}/ssls/s", b"{}")
    await asyncio.to_thread(there.etcd.ctl, "role", "revoke-permission", there.a, root, "--prefix")
    try:
        await here.start()
        await here.until(lambda: here.projector.status().rows == 2)
        await here.at(await there.put(there.a, "api_keys", "0009", CALLER))
        assert set(await here.rows()) == {
            *(f"{here.layout.resources}/api_keys/{id}" for id in ("0000", "0001", "0009")),
            f"{here.layout.ext}/ssls/s",
        }
        assert here.projector.status().connected
    finally:
        await asyncio.to_thread(there.etcd.ctl, "role", "grant-permission", there.a, "read", root, "--prefix")
    here.connect()
    await here.same()


async def test_many_small_changes_end_as_the_clouds(there: Cloud, here: Gateway) -> None:
    await callers(there, 10)
    await here.start()
    await here.same()
    for n in range(80):
        if n % 7 == 3:
            await there.delete(there.a, "api_keys", f"{n % 10:04}")
        else:
            await there.put(there.a, "api_keys", f"{n % 10:04}", {**CALLER, "display_name": str(n)})
    await here.at(await there.revision())
    await here.same()
    status = here.projector.status()
    assert (status.rows, status.lag_seconds) == (len(await here.rows()), 0)


async def test_what_a_list_holds_already_is_not_written_as_it_was_before(there: Cloud, here: Gateway) -> None:
    await callers(there, 1)
    await here.start()
    await here.same()
    third, gate = here.client.asked + 2, asyncio.Event()

    async def meddle(number: int) -> str:
        if number == third:
            await gate.wait()
        return "lost" if number == third else ""

    here.client.meddle = meddle
    await callers(there, 100, start=1)  # in chunks; the last of them gets lost, and a list is what it goes on with
    await here.until(lambda: here.client.asked > third)
    for name in ("first", "second", "third"):
        revision = await there.put(there.a, "api_keys", "after", {**CALLER, "display_name": name})
    gate.set()
    await here.at(revision)
    await here.at(await there.put(there.a, "api_keys", "last", CALLER))
    puts = [each for every in here.client.transactions for each in every if each.key.endswith("/after")]
    assert [isinstance(each, Put) and b"third" in each.value for each in puts] == [True]


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_fifty_thousand_rows(there: Cloud, etcd: EtcdServer, here: Gateway) -> None:
    count = 50_000
    models = {f"m-{n}": {**MODEL, "display_name": f"gpt-{n}"} for n in range(1000)}
    keys = {f"pk-{n}": {**KEY, "display_name": f"k-{n}"} for n in range(1000)}
    await there.put_many(there.a, "provider_keys", keys)
    await there.put_many(there.a, "models", models)
    limits = {"rate_limit": {"rpm": 100, "tpm": 100_000}, "allowed_models": ["gpt-1", "gpt-2"]}
    people = {f"{n:08x}-0000-4000-8000-{n:012x}": {"key_hash": f"{n:064x}", **limits} for n in range(count - 2000)}
    await there.put_many(there.a, "api_keys", people)
    bundle = there.issue(there.a)
    given = {
        "ca": bundle.ca,
        "certificate": bundle.certificate,
        "key": bundle.key,
        "cloud": there.endpoint,
        "local": etcd.endpoint,
        "root": here.layout.resources.removesuffix("/aisix"),
        "env_id": there.a,
        "revision": str(await there.revision()),
    }
    first, again = await alone(given), await alone(given)
    assert (first["rows"], first["written"]) == (count, count)
    assert first["transactions"] <= count / 99 + 5
    assert (again["rows"], again["written"]) == (count, 0)
    assert again["transactions"] <= 1
    for told in (first, again):
        assert told["seconds"] < 30
        assert told["peak_mb"] < 150
        assert told["stopped"] < 0.1  # about 0.03


async def alone(given: dict[str, str]) -> dict[str, float]:
    """What a process that projects this says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.cloud_agent.projecting_alone", json.dumps(given), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    told: dict[str, float] = json.loads(output.splitlines()[-1])
    return told
