"""Clients of providers: made when used, bounded in time, closed when nobody uses them, and silent about secrets."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from aisix_common.errors import ConfigurationError, Problem
from aisix_common.resources import SecretProvider
from aisix_proxy.secret_managers.base import Away, NoSuchSecret, Unresolved, Unusable
from aisix_proxy.secret_managers.clients import Client, Clients, Turnover, names_by_manager, same_place

from .scripted import Manager, making, vault
from tests.common.sources.support import Log

TOKEN = {"method": "token", "token": "$env://AISIX_SECRET_TOKEN"}


async def test_it_is_made_at_its_first_use() -> None:
    manager, log = Manager({"v/a/k": "s"}), Log()
    client = Client(vault(), making(manager), log.log)
    await client.aclose()
    assert (manager.made, manager.closed) == ([], [])
    assert (await client.fetch(("a", "k"))).value.reveal() == "s"
    await client.probe()
    await client.aclose()
    await client.aclose()
    assert (len(manager.made), len(manager.closed)) == (1, 1)


async def test_its_own_secrets_come_from_the_environment() -> None:
    manager, log = Manager({"v/a/k": "s"}), Log()
    client = Client(vault(auth=TOKEN), making(manager, {"AISIX_SECRET_TOKEN": "hvs.1\n"}), log.log)
    await client.fetch(("a", "k"))
    assert manager.made[0].auth.token.reveal() == "hvs.1"


@pytest.mark.parametrize(
    ("environ", "token", "said"),
    [
        ({}, "$env://AISIX_SECRET_TOKEN", "$env://AISIX_SECRET_TOKEN names a variable that is not set"),
        ({"HOME": "hvs.1"}, "$env://HOME", "secrets.env_allow does not offer"),
        ({"AISIX_SECRET_TOKEN": "a\nb"}, "$env://AISIX_SECRET_TOKEN", "/auth/token leads to a secret that holds"),
        ({}, "$env://9", "error format"),
    ],
)
async def test_a_provider_whose_own_secrets_are_not_to_be_had(environ: dict[str, str], token: str, said: str) -> None:
    client = Client(vault(auth={"method": "token", "token": token}), making(Manager(), environ), Log().log)
    with pytest.raises(Unusable, match="the provider vault/v cannot be used: ") as raised:
        await client.fetch(("a", "k"))
    assert said in str(raised.value)
    assert "hvs.1" not in str(raised.value)


@pytest.mark.looptime
async def test_a_manager_that_does_not_answer() -> None:
    manager = Manager({"v/a/k": "s"}, delay=3600)
    client = Client(vault(), making(manager, timeout=2.5), Log().log)
    with pytest.raises(Away, match=r"did not answer within 2\.5 seconds"):
        await client.fetch(("a", "k"))
    assert not client.used


@pytest.mark.parametrize(
    ("raised", "expected", "said"),
    [
        (NoSuchSecret("gone"), NoSuchSecret, "gone"),
        (ConfigurationError([Problem("ca_cert", "is not usable PEM")]), Unusable, "ca_cert: is not usable PEM"),
        (KeyError("hvs.canary"), Away, "failed as it never should"),
        (TimeoutError(), Away, "did not answer"),
        (asyncio.CancelledError(), Away, "failed as it never should"),  # of a task or future of its own
    ],
)
async def test_whatever_a_client_raises(raised: BaseException, expected: type[Unresolved], said: str) -> None:
    log = Log()
    client = Client(vault(), making(Manager({"v/a/k": raised})), log.log)
    with pytest.raises(expected, match=said):
        await client.fetch(("a", "k"))
    assert "canary" not in str(log.lines)
    assert log.said("a secret manager's client failed") == isinstance(raised, KeyError | asyncio.CancelledError)


@pytest.mark.looptime
async def test_who_is_cancelled_is_not_held() -> None:
    client = Client(vault(), making(Manager({"v/a/k": "s"}, delay=3)), Log().log)
    task = asyncio.ensure_future(client.fetch(("a", "k")))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not client.used


async def test_a_manager_without_a_client_here() -> None:
    bare = replace(making(Manager()), makers={})
    with pytest.raises(Unusable, match="no client for vault"):
        await Client(vault(), bare, Log().log).fetch(("a",))


def clients(*providers: SecretProvider) -> tuple[Clients, Manager]:
    manager = Manager({"v/a/k": "s"})
    made = Clients(making(manager), Log().log)
    made.update({each.identity: each for each in providers})
    return made, manager


def test_another_set_of_providers() -> None:
    made, _ = clients(vault("v"), vault("w"))
    assert made.names == {"vault": {"v", "w"}}
    kept, same = made.get("vault/w"), {"vault/v": vault("v"), "vault/w": vault("w")}
    assert made.update(same) == Turnover(False, {})
    token = {"method": "token", "token": "t2"}
    assert made.update(same | {"vault/v": vault("v", auth=token)}) == Turnover(False, {"vault/v": True})
    assert made.update(same | {"vault/v": vault("v", uri="http://127.0.0.1:10")}) == Turnover(False, {"vault/v": False})
    assert made.get("vault/w") is kept
    assert made.update({"vault/w": vault("w")}) == Turnover(True, {"vault/v": False})
    assert made.update(same) == Turnover(True, {"vault/v": False})
    assert made.get("vault/w") is kept


@pytest.mark.looptime
async def test_a_retired_client_is_closed_when_its_last_call_has_ended() -> None:
    made, manager = clients(vault())
    manager.delay = 1
    client = made.get("vault/v")
    assert client is not None
    call = asyncio.ensure_future(client.fetch(("a", "k")))
    await asyncio.sleep(0)
    made.update({})
    assert (client.retired, made.idle()) == (True, [])
    assert (await call).value.reveal() == "s"
    assert made.idle() == [client]
    assert made.idle() == []


async def test_all_are_closed_at_the_end() -> None:
    made, manager = clients(vault("v"))
    client = made.get("vault/v")
    assert client is not None
    await client.probe()
    made.update({"vault/w": vault("w")})
    other = made.get("vault/w")
    assert other is not None
    await other.probe()
    await made.aclose()
    assert {provider.name for provider in manager.closed} == {"v", "w"}


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({}, True),
        ({"auth": {"method": "approle", "role_id": "r", "secret_id": "s"}}, True),
        ({"uri": "http://127.0.0.1:10"}, False),
        ({"mount": "kv"}, False),
        ({"prefix": "p"}, False),
        ({"kv_version": "v1"}, False),
        ({"namespace": "n"}, False),
    ],
)
def test_the_same_place(fields: dict[str, Any], same: bool) -> None:
    assert same_place(vault(), vault(**fields)) is same


def test_names() -> None:
    assert names_by_manager(["vault/a", "vault/b", "aws/a"]) == {"vault": {"a", "b"}, "aws": {"a"}}
