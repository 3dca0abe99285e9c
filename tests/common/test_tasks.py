"""Tasks have an owner: crashes are told, the end is awaited, the wait is bounded."""

import asyncio

import pytest
import structlog

from aisix_common.tasks import TaskOwner


async def fail() -> None:
    raise LookupError("on purpose")


async def test_gives_the_result_and_forgets_the_task() -> None:
    async def work() -> int:
        return 5

    async with TaskOwner() as owner:
        task = owner.spawn(work(), name="work")
        assert len(owner) == 1
        assert await task == 5
        await asyncio.sleep(0)
        assert len(owner) == 0


async def test_a_crash_is_logged_with_the_name_of_the_task() -> None:
    stopped: list[str] = []
    with structlog.testing.capture_logs() as lines:
        async with TaskOwner(stopped.append) as owner:
            with pytest.raises(LookupError):
                await owner.spawn(fail(), name="doomed")
            await asyncio.sleep(0)
    assert [(line["event"], line["task"]) for line in lines] == [("a background task crashed", "doomed")]
    assert stopped == [], "it was not essential"


async def test_a_crash_of_an_essential_task_is_reported() -> None:
    stopped: list[str] = []
    with structlog.testing.capture_logs() as lines:
        async with TaskOwner(stopped.append) as owner:
            await asyncio.wait([owner.spawn(fail(), name="doomed", essential=True)])
            await asyncio.sleep(0)
    assert stopped == ["doomed"]
    assert len(lines) == 1


async def test_close_cancels_and_awaits_and_is_no_crash() -> None:
    stopped: list[str] = []
    ended: list[str] = []

    async def wait_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("cleaned up")

    owner = TaskOwner(stopped.append)
    owner.spawn(wait_for_ever(), name="waits", essential=True)
    await asyncio.sleep(0)
    await owner.close()
    assert (ended, stopped, len(owner)) == (["cleaned up"], [], 0)
    await owner.close()


async def test_nothing_starts_after_close() -> None:
    owner = TaskOwner()
    await owner.close()
    coro = fail()
    with pytest.raises(RuntimeError, match="late"):
        owner.spawn(coro, name="late")
    with pytest.raises(RuntimeError, match="cannot reuse"):
        await coro


@pytest.mark.looptime
async def test_a_task_that_resists_is_left_behind_by_name() -> None:
    stubborn = asyncio.Event()

    async def resist() -> None:
        while not stubborn.is_set():
            try:
                await stubborn.wait()
            except asyncio.CancelledError:
                continue

    owner = TaskOwner()
    task = owner.spawn(resist(), name="stubborn")
    await asyncio.sleep(0)
    begun = asyncio.get_running_loop().time()
    with structlog.testing.capture_logs() as lines:
        await owner.close(timeout=3)
    assert asyncio.get_running_loop().time() - begun == pytest.approx(3)
    assert lines[0]["tasks"] == ["stubborn"]
    stubborn.set()
    await task
