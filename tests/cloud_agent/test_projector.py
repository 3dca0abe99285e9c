"""The projection between two real etcds: whole, at once, nothing twice, exact after any crash."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from aisix_common.managed.projected import Marker

from tests.support.cloud import Cloud, cloud
from tests.support.etcd import EtcdServer

from .gateways import Gateway, gateway

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
