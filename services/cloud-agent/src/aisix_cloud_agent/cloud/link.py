"""The Cloud as the flows see it: through whichever certificate is in force. What a session is made of is `session`'s.

A new certificate is a new session beside the old one; whoever makes a call takes the one in force, and whoever holds a
watch is told when to move.
"""

import asyncio
from typing import Protocol

from aisix_common.errors import AisixError
from aisix_common.store.client import EtcdClient

from ..identity.identity import Identity


class CloudError(AisixError):
    """A call to the Cloud did not do what it should. Its text is for operators; of the answer it shows 200 characters
    at most."""


class CloudUnavailable(CloudError):
    """Not reached, no answer in time, or one that says to come again: 408, 425, 429, 5xx, or garbage."""

    def __init__(self, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds that the Cloud asked to wait for."""


class CloudRefused(CloudError):
    """The Cloud understood and refused; asking the same again does not help by itself. Redirects, too."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class Session(Protocol):
    """Connections to the Cloud with one certificate. Each call takes 10 s at most and raises CloudError."""

    @property
    def identity(self) -> Identity: ...

    @property
    def etcd(self) -> EtcdClient:
        """Of the Cloud's etcd API. Raises StoreError, as every EtcdClient."""
        ...

    async def heartbeat(self, body: bytes) -> None:
        """`POST /dp/heartbeat`; `body` is JSON."""
        ...

    async def telemetry(self, body: bytes) -> None:
        """`POST /dp/telemetry`; returns once the Cloud has taken the events."""
        ...

    async def budget(self, api_key_id: str) -> bytes:
        """`GET /dp/budget_check`; the body of a 2xx answer, 64 KiB at most."""
        ...

    async def aclose(self) -> None: ...


class Link:
    """Which session is in force."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._moved = asyncio.Event()
        self.worked = asyncio.Event()
        """Set when the session in force has carried a good heartbeat or a whole list: `worked_well` sets it."""

    @property
    def session(self) -> Session | None:
        """The one in force; None while there is no certificate."""
        return self._session

    def use(self, session: Session | None) -> Session | None:
        """Put a session in force. Returns the one before, which the caller closes once its calls had time to end."""
        before, self._session = self._session, session
        self.worked = asyncio.Event()
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        return before

    async def ready(self) -> Session:
        """The session in force, waiting for one."""
        while self._session is None:
            await self._moved.wait()
        return self._session

    async def replaced(self, session: Session) -> None:
        """Return when `session` is not the one in force any more."""
        while self._session is session:
            await self._moved.wait()

    def worked_well(self, session: Session) -> None:
        """`session` carried a good heartbeat or a whole list: if it is in force, its certificate can be trusted to
        work."""
        if session is self._session:
            self.worked.set()

    def in_force(self) -> Session:
        """The session in force. Raises CloudUnavailable while there is none."""
        if self._session is None:
            raise CloudUnavailable("there is no certificate for the Cloud yet")
        return self._session
