"""What clients of secret managers are built on in tests, and an HTTP API whose answers the test writes: for what no
real manager can be made to say. The sessions are the real ones, under the real address rules."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from ssl import SSLContext

import msgspec
from aiohttp import web

from aisix_common.outbound import open_session
from aisix_common.outbound.addresses import Reach
from aisix_common.outbound.guard import Guard
from aisix_proxy.secret_managers.base import Context


class SetClock:
    """Stands still unless moved."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    def move(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


def context(
    *,
    clock: SetClock | None = None,
    environ: Mapping[str, str] | None = None,
    timeout: float = 5.0,
    kubernetes_allow: Sequence[str] = (),
    service_account_hosts: Sequence[str] = ("127.0.0.1", "localhost"),
    service_account: Path = Path("/nowhere"),
) -> Context:
    """A Context with real sessions."""
    return Context(
        open_session=lambda ca_pem: open_session(Guard(Reach.OPERATOR), ca_pem, timeout=timeout),
        environ=environ or {},
        clock=clock or SetClock(),
        timeout=timeout,
        kubernetes_allow=kubernetes_allow,
        service_account_hosts=service_account_hosts,
        service_account=service_account,
    )


@dataclass(frozen=True)
class Asked:
    """A request as it came in."""

    method: str
    path: str
    """Undecoded."""
    headers: Mapping[str, str]
    body: bytes


@dataclass
class ScriptedApi:
    """Answers what `answer` says, and keeps what it was asked."""

    address: str = ""
    answer: Callable[[Asked], Awaitable[web.StreamResponse]] | None = None
    asked: list[Asked] = field(default_factory=list)

    def says(self, status: int, body: object = b"", headers: Mapping[str, str] | None = None) -> None:
        """Answer everything alike. Documents go out as JSON, bytes as they are."""

        async def same(asked: Asked) -> web.StreamResponse:
            return reply(status, body, headers)

        self.answer = same

    @property
    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [f"{asked.method} {asked.path}" for asked in self.asked]


def reply(status: int, body: object = b"", headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer: documents go out as JSON, bytes as they are."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return web.Response(status=status, body=content, headers=headers)


@asynccontextmanager
async def scripted_api(tls: SSLContext | None = None) -> AsyncIterator[ScriptedApi]:
    """One on loopback, at an ephemeral port."""
    api = ScriptedApi()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        asked = Asked(request.method, request.raw_path, request.headers, await request.read())
        api.asked.append(asked)
        assert api.answer is not None, "the test says what is answered"
        return await api.answer(asked)

    runner = web.ServerRunner(web.Server(handle, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    scheme, port = "https" if tls else "http", runner.addresses[0][1]
    api.address = f"{scheme}://127.0.0.1:{port}"
    try:
        yield api
    finally:
        await runner.cleanup()
