"""Access tokens for Google's APIs, from google-auth. Imported in a thread, when it is first needed.

google-auth blocks, so it works in a thread - one of its own, for it may hang there for longer than anybody waits -
while what it sends goes out on the event loop: for a service account over a session whose addresses are checked; for
the pod's own identity over a plain one, since that comes from the metadata service, and nothing of a row has a say in
it.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp
import google.auth
import google.auth.transport
from google.auth.credentials import Credentials, with_scopes_if_required
from google.auth.exceptions import (
    DefaultCredentialsError,
    GoogleAuthError,
    MalformedError,
    RefreshError,
    TransportError,
)
from google.oauth2 import service_account

from .base import Away, Context, Refused, Unresolved, Unusable
from .unreached import unreached

WHO: Final = "Google's token service"
_SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)
_EARLY: Final = timedelta(minutes=5)
_UNKNOWN: Final = timedelta(minutes=5)
"""How long a token is used whose end nobody told."""


class Tokens:
    """Tokens of one identity, each used until shortly before it ends. Made on the event loop."""

    def __init__(self, account: Mapping[str, Any] | None, context: Context) -> None:
        """`account`: the key of a service account; None for the pod's own identity."""
        self._account = account
        self._context = context
        self._session = (
            context.open_session(None)
            if account is not None
            else aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="google-auth")
        self._lock = asyncio.Lock()
        self._token: str | None = None
        self._until = context.clock.now()

    async def get(self) -> str:
        """A token that is good for a while. Raises Unresolved."""
        async with self._lock:
            if self._token is not None and self._context.clock.now() < self._until:
                return self._token
            loop = asyncio.get_running_loop()
            send = OnLoop(self._session, loop, self._context.timeout)
            try:
                token, expiry = await loop.run_in_executor(self._thread, self._fresh, send)
            except (GoogleAuthError, ValueError) as error:
                raise self._failure(error) from None
            self._token = token
            self._until = (
                self._context.clock.now() + _UNKNOWN if expiry is None else expiry.replace(tzinfo=UTC) - _EARLY
            )
            return token

    def forget(self, token: str) -> None:
        """This token was not taken."""
        if token == self._token:
            self._token = None

    async def aclose(self) -> None:
        """Close the connections."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        await self._session.close()

    def _fresh(self, send: "OnLoop") -> tuple[str, datetime | None]:
        """A new token and when it ends, in UTC. In a thread. The credentials are made each time: they may be files,
        which the deployment exchanges."""
        credentials: Credentials
        if self._account is not None:
            credentials = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
                self._account, scopes=_SCOPES
            )
        else:
            # Scopes come second: with them google-auth asks yet another API for the project's name.
            found, _ = google.auth.default(request=send)
            credentials = with_scopes_if_required(found, _SCOPES)  # type: ignore[no-untyped-call]
        credentials.refresh(send)  # type: ignore[no-untyped-call]
        if not isinstance(credentials.token, str):
            raise RefreshError("no token")  # type: ignore[no-untyped-call]
        return credentials.token, credentials.expiry

    def _failure(self, error: Exception) -> Unresolved:
        """What an error of google-auth means, of whose words none is told: they hold answers' bodies."""
        if isinstance(error, DefaultCredentialsError) or (isinstance(error, MalformedError) and self._account is None):
            return Refused(
                "the pod has no identity of Google's that can be used: give it a workload identity, or the provider a "
                "service_account"
            )
        if isinstance(error, TransportError):
            return unreached(WHO, error)
        if isinstance(error, RefreshError):
            if isinstance(error.__cause__, TransportError):  # the metadata service's
                return unreached(WHO, error)
            if error.retryable:
                return Away(f"{WHO} fails or throttles us")
            return Refused(
                f"{WHO} gives the identity no token: is its key or its binding still there, do the clocks agree?"
            )
        if isinstance(error, ValueError) and self._account is not None:
            return Unusable("service_account holds a private_key that cannot be used")
        return Refused(f"{WHO} gives the identity no token")


@dataclass(frozen=True)
class Answered:
    """An answer as google-auth reads it."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class OnLoop(google.auth.transport.Request):
    """Sends what google-auth asks for in its thread on the event loop of `session`."""

    def __init__(self, session: aiohttp.ClientSession, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self._session = session
        self._loop = loop
        self._timeout = timeout

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **more: object,
    ) -> Answered:
        """The answer. Not on the loop. Raises TransportError, as google-auth wants it."""
        seconds = min(timeout or self._timeout, self._timeout)
        future = asyncio.run_coroutine_threadsafe(self._send(url, method, body, headers, seconds), self._loop)
        try:
            return future.result(seconds + 1)
        except (aiohttp.ClientError, OSError, RuntimeError) as error:  # RuntimeError: the session was closed meanwhile
            future.cancel()
            raise TransportError(error) from error  # type: ignore[no-untyped-call]

    async def _send(
        self, url: str, method: str, body: bytes | None, headers: Mapping[str, str] | None, seconds: float
    ) -> Answered:
        async with asyncio.timeout(seconds):
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as response:
                return Answered(response.status, response.headers, await response.read())
