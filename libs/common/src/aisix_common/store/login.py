"""User and password towards etcd: one token, shared by all calls, renewed when etcd no longer takes it.

The token travels as plain metadata, not as gRPC call credentials: those are refused on a channel without TLS.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aisix_common.secret import Secret

from .failures import token_is_stale, token_may_be_stale

SETTLED_SECONDS: Final = 2.0
"""A token younger than this is not to blame for a denial: etcd checks passwords slowly, on purpose."""


@dataclass(frozen=True, slots=True)
class Token:
    """What etcd gave us for user and password; `text` None: authentication is off there, or no user is configured."""

    text: Secret | None
    since: float

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return () if self.text is None else (("token", self.text.reveal()),)


class Login:
    """Holds the token. `authenticate` asks etcd for one (None: authentication is off) and raises StoreError."""

    def __init__(self, authenticate: Callable[[], Awaitable[str | None]] | None) -> None:
        self._authenticate = authenticate
        self._token: Token | None = None
        self._lock = asyncio.Lock()

    async def token(self) -> Token:
        """The token to use now; logs in when there is none yet."""
        if self._token is not None:
            return self._token
        async with self._lock:
            return self._token or await self._renew()

    async def cured(self, stale: Token, complaint: str) -> bool:
        """Get a new token in the place of `stale` if etcd's `complaint` may be about it, once for all who complain.

        False when that cannot help: no user is configured, it is about something else, or the token is fresh.
        """
        certain = token_is_stale(complaint)
        if self._authenticate is None or not (certain or token_may_be_stale(complaint)):
            return False
        async with self._lock:
            if self._token is not stale:
                return True
            if not certain and asyncio.get_running_loop().time() - stale.since < SETTLED_SECONDS:
                return False
            await self._renew()
            return True

    async def _renew(self) -> Token:
        text = await self._authenticate() if self._authenticate is not None else None
        self._token = Token(None if text is None else Secret(text), asyncio.get_running_loop().time())
        return self._token
