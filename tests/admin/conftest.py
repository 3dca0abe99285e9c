"""Fixtures of the admin's tests."""

from collections.abc import AsyncIterator

import pytest

from tests.support.admin import RunningAdmin, running_admin
from tests.support.etcd import EtcdServer


@pytest.fixture
async def admin(etcd: EtcdServer, etcd_prefix: str) -> AsyncIterator[RunningAdmin]:
    """An admin on the session's etcd, under a prefix of this test alone."""
    async with running_admin(etcd.endpoint, etcd_prefix) as running:
        yield running
