"""The thread that counts: it takes so much, and no more."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from aisix_proxy.pipeline.counter import MOST_BYTES, MOST_WAITING, Counter

from tests.support.builders import until


def stuck(go: threading.Event) -> Callable[[], int]:
    def count() -> int:
        assert go.wait(5)
        return 7

    return count


def broken() -> int:
    raise IndexError


@pytest.mark.parametrize(("size", "most"), [(0, MOST_WAITING), (MOST_BYTES // 4, 4), (2 * MOST_BYTES, 1)])
async def test_what_waits_is_bounded_and_taken_again_when_it_is_done(size: int, most: int) -> None:
    counter, go = Counter(), threading.Event()
    waiting = [counter.begin(stuck(go), size) for _ in range(most)]
    assert counter.begin(stuck(go), size) is None
    go.set()
    assert await asyncio.gather(*filter(None, waiting)) == [7] * most
    assert await (counter.begin(stuck(go), size) or asyncio.sleep(0)) == 7


async def test_counts_are_made_one_after_another_in_a_thread_that_is_not_the_loops() -> None:
    counter = Counter()
    seen = await asyncio.gather(*filter(None, [counter.begin(threading.get_ident, 0) for _ in range(9)]))
    assert len(set(seen)) == 1
    assert threading.get_ident() not in seen


async def test_one_that_nobody_waits_for_any_more_or_that_fails_makes_room_too() -> None:
    counter, go = Counter(), threading.Event()
    waiting = [counter.begin(stuck(go), 0) for _ in range(MOST_WAITING)]
    for future in waiting[1:]:
        assert future is not None
        future.cancel()
    await asyncio.sleep(0)
    assert counter.begin(stuck(go), 0) is not None
    go.set()
    await until(lambda: counter._waiting == 0)
    failing = counter.begin(broken, 0)
    assert failing is not None
    with pytest.raises(IndexError):
        await failing
    assert counter._waiting == 0
