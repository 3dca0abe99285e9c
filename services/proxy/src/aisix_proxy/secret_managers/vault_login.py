"""Tokens for Vault: one that was given, or one that is got by logging in, renewed in time, and got anew when refused.

One login at a time for all who wait for it, whether it succeeds or fails. A token is never logged and lies in memory
alone. A clock that was set wrong costs a login, no more: Vault's refusal says the same as the clock.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

import msgspec

from aisix_common.clock import Clock
from aisix_common.resources.secret_providers import VaultAppRole, VaultKubernetes, VaultToken

from .base import Away, Context, Refused, Unresolved
from .service_account import mounted
from .vault_api import WHO, Answer, VaultApi

USED_FOR: Final = 2 / 3
"""The part of a token's life after which another one is got."""
SURELY_GOOD: Final = timedelta(seconds=10)
"""How long after a login a refusal is taken for one of policy: what is asked for often must not log in each time."""


class Tokens(Protocol):
    """Where the token of a call comes from."""

    async def current(self) -> str:
        """The token to use now. Raises Unresolved."""
        ...

    async def instead_of(self, refused: str) -> str | None:
        """Another token, after one was refused; None where there is none to be had. Raises Unresolved."""
        ...


class GivenToken:
    """A token that somebody else renews."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def current(self) -> str:
        return self._token

    async def instead_of(self, refused: str) -> str | None:
        return None


class _Auth(msgspec.Struct):
    client_token: str
    lease_duration: float = 0
    """Seconds; 0: it never expires."""
    renewable: bool = False


class _LoggedIn(msgspec.Struct):
    auth: _Auth


@dataclass(frozen=True, slots=True)
class _Held:
    """A token of ours."""

    token: str = field(repr=False)
    since: datetime
    lease: float
    first_lease: float
    renewable: bool

    def fresh(self, now: datetime) -> bool:
        return not self.lease or now - self.since < timedelta(seconds=self.lease * USED_FOR)

    def valid(self, now: datetime) -> bool:
        return not self.lease or now - self.since < timedelta(seconds=self.lease)


class Login:
    """Logs in at one auth method."""

    def __init__(
        self, api: VaultApi, mount: str, credentials: Callable[[], Awaitable[Mapping[str, str]]], clock: Clock
    ) -> None:
        """`credentials`: what is posted, asked for at each login."""
        self._api = api
        self._mount = mount
        self._credentials = credentials
        self._clock = clock
        self._held: _Held | None = None
        self._turn = asyncio.Lock()
        self._attempts = 0
        self._failure: Unresolved | None = None

    async def current(self) -> str:
        held = self._held
        if held is not None and held.fresh(self._clock.now()):
            return held.token
        return await self._together(self._renew_or_log_in)

    async def instead_of(self, refused: str) -> str | None:
        held = self._held
        if held is not None and held.token != refused:
            return held.token
        if held is not None and timedelta() <= self._clock.now() - held.since < SURELY_GOOD:
            return None
        return await self._together(self._log_in)

    async def _together(self, attempt: Callable[[], Awaitable[_Held]]) -> str:
        """Do `attempt`, or take the outcome of one that ended while this caller waited for its turn."""
        seen = self._attempts
        async with self._turn:
            if self._attempts != seen:
                if self._failure is not None:
                    raise _again(self._failure)
                if self._held is not None:
                    return self._held.token
            try:
                held = await attempt()
            except Unresolved as failure:
                self._failure = _again(failure)
                self._attempts += 1
                raise
            self._held, self._failure = held, None
            self._attempts += 1  # not for a caller who left: the next one is to try for itself
            return held.token

    async def _renew_or_log_in(self) -> _Held:
        held = self._held
        if held is not None and held.renewable and held.valid(self._clock.now()):
            try:
                answer = await self._api.call("POST", "auth/token/renew-self", token=held.token, document={})
                if answer.good:
                    return self._taken(answer, held.first_lease)
            except Away:
                return held  # good for a third of its life still; what it is wanted for will tell the same
        return await self._log_in()

    async def _log_in(self) -> _Held:
        answer = await self._api.call("POST", f"auth/{self._mount}/login", document=await self._credentials())
        if answer.status == 404:
            raise Refused(
                f"{WHO} has no login method at auth/{self._mount}: enable it, or correct auth.mount or namespace"
            )
        if not answer.good:
            raise Refused(
                f"{WHO} refuses the login at auth/{self._mount} ({answer.status}): check the role, what it is bound to "
                "and, for approle, whether the secret id has expired or is used up"
            )
        return self._taken(answer, None)

    def _taken(self, answer: Answer, first_lease: float | None) -> _Held:
        """`first_lease`: what the login gave, for a renewal. A lease that has shrunk to less than half of that nears
        the longest life its role allows, and is not renewed again."""
        auth = answer.read(_LoggedIn).auth
        full = auth.lease_duration if first_lease is None else first_lease
        renewable = auth.renewable and auth.lease_duration * 2 >= full
        return _Held(auth.client_token, self._clock.now(), auth.lease_duration, full, renewable)


def _again(failure: Unresolved) -> Unresolved:
    """The same failure for another caller, without the frames that the first one went through."""
    return type(failure)(*failure.args)


def tokens_for(auth: VaultToken | VaultKubernetes | VaultAppRole, api: VaultApi, context: Context) -> Tokens:
    """Where a provider's tokens come from."""
    if isinstance(auth, VaultToken):
        return GivenToken(auth.token.reveal())
    if isinstance(auth, VaultAppRole):
        given = {"role_id": auth.role_id, "secret_id": auth.secret_id.reveal()}

        async def role() -> Mapping[str, str]:
            return given

        return Login(api, auth.mount, role, context.clock)
    name = auth.role

    async def account() -> Mapping[str, str]:
        return {"role": name, "jwt": await mounted(context, "token")}

    return Login(api, auth.mount, account, context.clock)
