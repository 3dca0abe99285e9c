"""Logins: against a real OpenBao, and against a scripted server where the order and number of calls are the point."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aisix_common.resources.secret_providers import VaultAppRole, VaultKubernetes, VaultToken
from aisix_common.secret import Secret
from aisix_proxy.secret_managers.base import Away, Context, Refused, Unresolved
from aisix_proxy.secret_managers.rest import Rest
from aisix_proxy.secret_managers.vault_api import VaultApi
from aisix_proxy.secret_managers.vault_login import Tokens, tokens_for

from .scripted_api import Asked, ScriptedApi, SetClock, context, reply, scripted_api
from tests.support.kubernetes_api import kubernetes_api
from tests.support.openbao import BaoRefused, OpenBao

pytestmark = pytest.mark.xdist_group("openbao")

CANARY = "sk-canary-c0de"
APPROLE = VaultAppRole(role_id="r", secret_id=Secret(CANARY))
LOGIN = "POST /v1/auth/approle/login"
RENEW = "POST /v1/auth/token/renew-self"

Opened = Callable[..., Tokens]


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    """Makes tokens of an address."""
    async with AsyncExitStack() as stack:

        def make(address: str, auth: VaultToken | VaultKubernetes | VaultAppRole, built_on: Context) -> Tokens:
            api = VaultApi(address, None, Rest("Vault", built_on))
            stack.push_async_callback(api.aclose)
            return tokens_for(auth, api, built_on)

        yield make


class Counter:
    """A scripted Vault that gives out `t1`, `t2`, ... and renews them."""

    def __init__(self, api: ScriptedApi, *, lease: float = 90, renewable: bool = True) -> None:
        self.logins = 0
        self.lease: float = lease
        self.renewed_to: float = lease
        self.renewable = renewable
        self.refuse_login: web.Response | None = None
        self.refuse_renewal: int | None = None
        self.gate, self.waiting = asyncio.Event(), asyncio.Event()
        self.gate.set()
        api.answer = self.answer

    async def answer(self, asked: Asked) -> web.StreamResponse:
        if not self.gate.is_set():
            self.waiting.set()
        await self.gate.wait()
        if asked.path.endswith("renew-self"):
            if self.refuse_renewal is not None:
                return reply(self.refuse_renewal, {"errors": [CANARY]})
            return self._gives(asked.headers["X-Vault-Token"], self.renewed_to)
        if self.refuse_login is not None:
            return self.refuse_login
        self.logins += 1
        return self._gives(f"t{self.logins}", self.lease)

    def _gives(self, token: str, lease: float) -> web.Response:
        auth = {"client_token": token, "lease_duration": lease, "renewable": self.renewable, "policies": ["x"]}
        return reply(200, {"auth": auth})


async def test_a_given_token_is_all_there_is(opened: Opened) -> None:
    tokens = opened("http://127.0.0.1:9", VaultToken(token=Secret("t")), context())
    assert await tokens.current() == "t"
    assert await tokens.instead_of("t") is None


async def test_a_token_is_used_for_two_thirds_of_its_life_then_renewed(opened: Opened) -> None:
    async with scripted_api() as api:
        Counter(api, lease=90)
        clock = SetClock()
        tokens = opened(api.address, APPROLE, context(clock=clock))
        for moved, after in ((0, [LOGIN]), (59, [LOGIN]), (2, [LOGIN, RENEW]), (59, [LOGIN, RENEW])):
            clock.move(moved)
            assert await tokens.current() == "t1"
            assert api.paths == after
    assert api.asked[0].body == b'{"role_id":"r","secret_id":"sk-canary-c0de"}'


@pytest.mark.parametrize(
    ("changes", "moved", "calls", "token"),
    [
        ({"renewable": False}, 61, [LOGIN, LOGIN], "t2"),
        ({"renewable": True}, 91, [LOGIN, LOGIN], "t2"),  # too late to renew
        ({"refuse_renewal": 403}, 61, [LOGIN, RENEW, LOGIN], "t2"),
        ({"refuse_renewal": 400}, 61, [LOGIN, RENEW, LOGIN], "t2"),
        ({"refuse_renewal": 500}, 61, [LOGIN, RENEW], "t1"),  # good for a while still
        ({"lease": 0}, 1e9, [LOGIN], "t1"),  # never expires
        ({}, -3600, [LOGIN], "t1"),  # the clock was set back
    ],
)
async def test_what_follows_a_token(
    opened: Opened, changes: dict[str, Any], moved: float, calls: list[str], token: str
) -> None:
    async with scripted_api() as api:
        vault = Counter(api)
        for name, value in changes.items():
            setattr(vault, name, value)
        clock = SetClock()
        tokens = opened(api.address, APPROLE, context(clock=clock))
        assert await tokens.current() == "t1"
        clock.move(moved)
        assert await tokens.current() == token
        assert api.paths == calls


async def test_a_lease_that_shrinks_nears_its_end_and_is_not_renewed_again(opened: Opened) -> None:
    async with scripted_api() as api:
        vault = Counter(api, lease=90)
        vault.renewed_to = 30
        clock = SetClock()
        tokens = opened(api.address, APPROLE, context(clock=clock))
        for moved, token in ((0, "t1"), (61, "t1"), (21, "t2")):
            clock.move(moved)
            assert await tokens.current() == token
    assert api.paths == [LOGIN, RENEW, LOGIN]


async def test_all_who_wait_share_one_login(opened: Opened) -> None:
    async with scripted_api() as api:
        Counter(api)
        tokens = opened(api.address, APPROLE, context())
        assert await asyncio.gather(*(tokens.current() for _ in range(10))) == ["t1"] * 10
    assert api.paths == [LOGIN]


async def test_all_who_wait_share_one_failure(opened: Opened) -> None:
    async with scripted_api() as api:
        vault = Counter(api)
        vault.refuse_login = reply(400, {"errors": ["invalid role or secret ID"]})
        tokens = opened(api.address, APPROLE, context())
        ended = await asyncio.gather(*(tokens.current() for _ in range(10)), return_exceptions=True)
        assert [type(each) for each in ended] == [Refused] * 10
        assert len({id(each) for each in ended}) == 10
        assert api.paths == [LOGIN]
        vault.refuse_login = None
        assert await tokens.current() == "t1"


async def test_a_caller_who_leaves_takes_nobodys_login_along(opened: Opened) -> None:
    async with scripted_api() as api:
        vault = Counter(api)
        clock = SetClock()
        tokens = opened(api.address, APPROLE, context(clock=clock))
        assert await tokens.current() == "t1"
        clock.move(91)
        vault.gate.clear()
        first, *others = (asyncio.ensure_future(tokens.current()) for _ in range(4))
        await vault.waiting.wait()
        first.cancel()
        vault.gate.set()
        ended = await asyncio.gather(*others)
        assert len(set(ended)) == 1 and "t1" not in ended
        assert first.cancelled()
    assert api.paths == [LOGIN] * 3


async def test_refusals_of_one_token_lead_to_one_login_and_new_ones_to_none(opened: Opened) -> None:
    async with scripted_api() as api:
        Counter(api)
        clock = SetClock()
        tokens = opened(api.address, APPROLE, context(clock=clock))
        old = await tokens.current()
        assert await tokens.instead_of(old) is None, "it was got just now: the refusal is one of policy"
        clock.move(11)
        assert await asyncio.gather(*(tokens.instead_of(old) for _ in range(5))) == ["t2"] * 5
        assert await tokens.instead_of("t2") is None
        clock.move(11)
        assert await tokens.instead_of(old) == "t2", "a latecomer who was refused with the token before"
        assert api.paths == [LOGIN, LOGIN]
        clock.move(-3600)
        assert await tokens.instead_of("t2") == "t3", "a clock that was set back says nothing of a token's age"


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (reply(400, {"errors": [f"invalid secret id {CANARY}"]}), Refused, "refuses the login at auth/approle (400)"),
        (reply(403, {"errors": ["permission denied"]}), Refused, "refuses the login at auth/approle (403)"),
        (reply(404, {"errors": ["no handler for route"]}), Refused, "no login method at auth/approle"),
        (reply(503, {"errors": ["Vault is sealed"]}), Away, "is sealed"),
        (reply(500, {"errors": [CANARY]}), Away, "fails (500)"),
        (reply(200, {"auth": None}), Away, "is not Vault's API"),
        (reply(200, {"data": {}}), Away, "is not Vault's API"),
        (reply(204), Away, "is not Vault's API"),
    ],
)
async def test_logins_that_fail(opened: Opened, answer: web.Response, kind: type[Unresolved], says: str) -> None:
    async with scripted_api() as api:
        Counter(api).refuse_login = answer
        with pytest.raises(Unresolved) as raised:
            await opened(api.address, APPROLE, context()).current()
    assert type(raised.value) is kind
    assert says in str(raised.value)
    assert CANARY not in str(raised.value)


async def test_nothing_that_holds_a_token_shows_it(opened: Opened) -> None:
    async with scripted_api() as api:
        Counter(api)
        tokens = opened(api.address, APPROLE, context())
        await tokens.current()
    shown = repr(vars(tokens))
    assert "t1" not in shown
    assert CANARY not in shown


async def test_a_real_approle(openbao: OpenBao, opened: Opened) -> None:
    mount = f"approle-{uuid.uuid4().hex[:8]}"
    role_id, secret_id = openbao.approle("proxy", ["default"], ttl="90s", mount=mount, secret_id_uses=2)
    auth = VaultAppRole(role_id=role_id, secret_id=Secret(secret_id), mount=mount)
    clock = SetClock()
    tokens = opened(openbao.address, auth, context(clock=clock))

    first = await tokens.current()
    openbao.read("auth/token/lookup-self", first)
    clock.move(61)
    assert await tokens.current() == first, "renewed"

    openbao.write(f"sys/leases/revoke-prefix/auth/{mount}/login", {"sync": True})
    with pytest.raises(BaoRefused):
        openbao.read("auth/token/lookup-self", first)
    clock.move(11)
    second = await tokens.instead_of(first)
    assert second not in (None, first)
    openbao.read("auth/token/lookup-self", second)

    clock.move(91)
    with pytest.raises(Refused, match="used up"):
        await tokens.current()


async def test_the_service_account_of_the_pod(openbao: OpenBao, opened: Opened, tmp_path: Path) -> None:
    """OpenBao asks the API server about the token, which runs in this loop."""
    mount = f"kubernetes-{uuid.uuid4().hex[:8]}"
    async with kubernetes_api(tmp_path / "cluster") as cluster:
        server = {"host": cluster.url, "ca": cluster.ca, "reviewer": cluster.accounts.admin_token}
        limits = {"accounts": "proxy", "namespaces": "aisix", "mount": mount}
        await asyncio.to_thread(openbao.kubernetes, "aisix-proxy", ["default"], **server, **limits)
        auth, clock = VaultKubernetes(role="aisix-proxy", mount=mount), SetClock()
        folder = tmp_path / "account"
        tokens = opened(openbao.address, auth, context(clock=clock, service_account=folder))

        with pytest.raises(Refused, match="no readable token"):
            await tokens.current()
        cluster.mount(folder, cluster.account("elsewhere", "proxy"))
        with pytest.raises(Refused, match=rf"refuses the login at auth/{mount} \(403\)"):
            await tokens.current()
        cluster.mount(folder, cluster.account("aisix", "proxy"))
        first = await tokens.current()
        openbao.read("auth/token/lookup-self", first)

        clock.move(11)
        cluster.accounts.rotate(cluster.account("aisix", "proxy"))
        with pytest.raises(Refused):
            await tokens.instead_of(first)
        cluster.mount(folder, cluster.account("aisix", "proxy"))
        assert await tokens.instead_of(first) not in (None, first)


async def test_a_role_that_vault_does_not_have(openbao: OpenBao, opened: Opened, tmp_path: Path) -> None:
    mount = f"kubernetes-{uuid.uuid4().hex[:8]}"
    openbao.enable_login(mount, "kubernetes")
    (tmp_path / "token").write_text(CANARY)
    auth = VaultKubernetes(role="nobody", mount=mount)
    with pytest.raises(Refused) as raised:
        await opened(openbao.address, auth, context(service_account=tmp_path)).current()
    assert CANARY not in str(raised.value)
