"""One gateway and one demo provider for the tests that only talk to them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support import gateway as gateways
from tests.support import provider as providers
from tests.support.etcd import EtcdServer


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def provider() -> AsyncIterator[providers.Provider]:
    async with providers.running() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def gateway(
    etcd: EtcdServer, provider: providers.Provider, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[gateways.Gateway]:
    """A whole gateway (`aisix`) that serves `demo-model`. Shared: do not stop it, leave its resources as they are."""
    folder: Path = tmp_path_factory.mktemp("gateway")
    async with gateways.running(folder, etcd.endpoint, "/e2e/aisix") as running:
        await running.serve(provider.base)
        yield running
