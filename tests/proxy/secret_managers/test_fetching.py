"""Fetches: a few at once for each provider, each told of once."""

import asyncio

import pytest

from aisix_common.tasks import TaskOwner
from aisix_proxy.secret_managers.base import Away, Fetched, NoSuchSecret, Refused, Unresolved, Unusable
from aisix_proxy.secret_managers.cache import Ticket
from aisix_proxy.secret_managers.clients import Client
from aisix_proxy.secret_managers.fetching import AT_ONCE, Fetching, Outcome

from .scripted import Manager, making, vault
from tests.common.sources.support import Log


class Stage:
    def __init__(self, own: TaskOwner) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self.told: list[tuple[str, str, float]] = []
        self.fetching = Fetching(own, self.done, lambda *told: self.told.append(told))

    def done(self, ticket: Ticket, outcome: Outcome) -> None:
        assert ticket.text not in self.outcomes
        self.outcomes[ticket.text] = outcome

    async def all_done(self) -> None:
        while self.fetching.busy:
            await asyncio.sleep(0.1)


def client(manager: Manager, name: str = "v") -> Client:
    return Client(vault(name), making(manager), Log().log)


@pytest.mark.looptime
async def test_one_provider_that_hangs_holds_up_no_other() -> None:
    slow, fast = Manager(delay=1), Manager({"w/a": "s"})
    async with TaskOwner() as own:
        stage = Stage(own)
        hanging, quick = client(slow), client(fast, "w")
        for n in range(40):
            slow.secrets[f"v/{n}"] = str(n)
            stage.fetching.start(hanging, (str(n),), Ticket(f"slow {n}", 0))
        stage.fetching.start(quick, ("a",), Ticket("quick", 0))
        await asyncio.sleep(0.5)
        assert list(stage.outcomes) == ["quick"]
        await stage.all_done()
        assert slow.most_at_once == AT_ONCE
        assert len(stage.outcomes) == 41
        assert slow.asked == [f"v/{n}" for n in range(40)], "in turn"


@pytest.mark.looptime
async def test_a_retired_client_is_asked_nothing_more() -> None:
    manager = Manager({f"v/{n}": "s" for n in range(40)}, delay=1)
    async with TaskOwner() as own:
        stage, old = Stage(own), client(manager)
        for n in range(40):
            stage.fetching.start(old, (str(n),), Ticket(str(n), 0))
        await asyncio.sleep(0.5)
        old.retired = True
        await stage.all_done()
        assert len(manager.asked) == AT_ONCE


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("error", "name"),
    [
        (None, "ok"),
        (NoSuchSecret("x"), "missing"),
        (Refused("x"), "refused"),
        (Away("x"), "away"),
        (Unusable("x"), "unusable"),
    ],
)
async def test_what_is_told(error: Unresolved | None, name: str) -> None:
    async with TaskOwner() as own:
        stage = Stage(own)
        stage.fetching.start(client(Manager({"v/a": "s"}, delay=0.25, trouble=error)), ("a",), Ticket("a", 0))
        await stage.all_done()
    ((manager, told, seconds),) = stage.told
    assert (manager, told) == ("vault", name)
    assert seconds == pytest.approx(0.25)
    outcome = stage.outcomes["a"]
    assert outcome is error if error is not None else isinstance(outcome, Fetched)
