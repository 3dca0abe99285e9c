"""Which session is in force, and who is told when it is another one."""

import asyncio

import pytest

from aisix_cloud_agent.cloud.link import CloudUnavailable, Link

from tests.cloud_agent.sessions import Here


async def test_whoever_waits_gets_the_first_session_and_is_told_of_the_next() -> None:
    link, first, second = Link(), Here(), Here()
    with pytest.raises(CloudUnavailable, match="no certificate"):
        link.in_force()
    async with asyncio.TaskGroup() as group:
        ready = group.create_task(link.ready())
        await asyncio.sleep(0)
        assert link.use(first) is None
        assert await ready is first is link.in_force()
        moved = group.create_task(link.replaced(first))
        await asyncio.sleep(0)
        assert not moved.done()
        assert link.use(second) is first
        await moved
    await link.replaced(first)  # at once


async def test_only_the_session_in_force_can_prove_that_its_certificate_works() -> None:
    link, first, second = Link(), Here(), Here()
    link.use(first)
    worked = link.worked
    link.worked_well(second)
    assert not worked.is_set()
    link.worked_well(first)
    assert worked.is_set()
    link.use(second)
    assert not link.worked.is_set()
