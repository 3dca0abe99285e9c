"""Clients of the etcd that a test uses."""

from collections.abc import AsyncIterator

import pytest

from aisix_common.store.client import EtcdClient, EtcdOptions

from tests.support.etcd import EtcdServer


@pytest.fixture
async def client(etcd: EtcdServer) -> AsyncIterator[EtcdClient]:
    """A client of the session's etcd."""
    async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client:
        yield client


@pytest.fixture
async def fresh_client(fresh_etcd: EtcdServer) -> AsyncIterator[EtcdClient]:
    """A client of `fresh_etcd`, straight, for writing behind the back of the one under test."""
    async with EtcdClient(EtcdOptions(endpoints=(fresh_etcd.endpoint,), request_timeout=30)) as client:
        yield client
