"""Libraries that are extras, and things that are made once."""

import asyncio
import threading

import pytest

from aisix_proxy.secret_managers.base import Away, Unusable
from aisix_proxy.secret_managers.library import Once, loaded


async def test_a_library_that_is_missing_is_named_with_what_installs_it() -> None:
    def load() -> None:
        import no_such_vendor  # type: ignore[import-not-found] # noqa: F401

    with pytest.raises(Unusable, match=r"the library for X is not installed: pip install 'aisix-proxy\[x\]'"):
        await loaded("X", "x", load)


async def test_a_module_of_ours_that_is_missing_is_a_mistake() -> None:
    def load() -> None:
        raise ImportError(name="aisix_proxy.nothing")

    with pytest.raises(ImportError):
        await loaded("X", "x", load)


async def test_loading_does_not_hold_the_loop() -> None:
    assert await loaded("X", "x", threading.get_ident) != threading.get_ident()


async def test_all_who_need_it_get_the_one_that_was_made() -> None:
    made: list[object] = []

    async def make() -> object:
        await asyncio.sleep(0)
        made.append(object())
        return made[-1]

    once = Once(make)
    got = await asyncio.gather(*(once.get() for _ in range(5)))
    assert len(made) == 1
    assert all(each is made[0] for each in got)


async def test_what_failed_is_tried_anew() -> None:
    outcomes: list[Exception | str] = [Away("not now"), "made"]

    async def make() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    once = Once(make)
    with pytest.raises(Away):
        await once.get()
    assert await once.get() == "made"


async def test_what_is_being_made_is_given_to_whoever_closes_it() -> None:
    go = asyncio.Event()

    async def make() -> str:
        await go.wait()
        return "made"

    once = Once(make)
    async with asyncio.TaskGroup() as group:
        getting = group.create_task(once.get())
        await asyncio.sleep(0)
        taking = group.create_task(once.take())
        await asyncio.sleep(0)
        go.set()
    assert (getting.result(), taking.result()) == ("made", "made")
    with pytest.raises(Away, match="being changed"):
        await once.get()


async def test_what_was_never_made_is_not_made_for_closing() -> None:
    async def make() -> str:
        raise AssertionError

    assert await Once(make).take() is None
