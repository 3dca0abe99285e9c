"""Values for tests of the proxy, with everything given that a test does not care about.

    snapshot_of(model("m"), provider_key(), api_key("sk-1"))      a Snapshot, built as from etcd
    services = make(snapshot, upstream=FakeUpstream(...))         real Services around replacements
    exchange = exchange_of(services, ...)                         one exchange, with a recording Downstream
    async with serving(services) as base: ...                     the real edge on a loopback socket

Fakes here stand at the boundaries (the wire, the clock, the log's sink), never in place of our own logic.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from multidict import CIMultiDict, CIMultiDictProxy

from aisix_common.metrics import Metrics
from aisix_common.resources import hash_key
from aisix_common.service import Lifecycle
from aisix_common.settings import Address, Settings
from aisix_common.settings.listeners import Proxy
from aisix_common.snapshot import Snapshot, apply, build, empty
from aisix_common.store.types import Changes, KeyValue, Listing
from aisix_proxy.app import Replacements, make_edge, make_services
from aisix_proxy.endpoints._edge import Edge
from aisix_proxy.endpoints.chat_completions import CHAT_COMPLETIONS
from aisix_proxy.pipeline.endpoint import Endpoint
from aisix_proxy.pipeline.exchange import Exchange, Inbound
from aisix_proxy.pipeline.services import Services, Upstream
from aisix_proxy.telemetry.usage_event import UsageEvent, UsageSink

KEY: Final = "sk-caller-canary-77"
"""The caller key of `standard`."""
SECRET: Final = "sk-provider-canary-88"
NOON: Final = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)

Row = tuple[str, str, dict[str, Any]]
"""(kind, id, document)"""


def provider_key(id: str = "pk-1", **fields: Any) -> Row:
    document = {"display_name": "acme", "provider": "openai", "api_key": SECRET, "api_base": "http://127.0.0.1:9/v1"}
    return "provider_keys", id, document | fields


def model(name: str = "demo-model", id: str = "", **fields: Any) -> Row:
    document = {
        "display_name": name,
        "provider": "openai",
        "model_name": "gpt-4o",
        "provider_key_id": "pk-1",
    }
    return "models", id or f"id-{name}", document | fields


def api_key(plaintext: str = KEY, id: str = "key-1", **fields: Any) -> Row:
    return "api_keys", id, {"key_hash": hash_key(plaintext), "allowed_models": ["*"]} | fields


def _stored(rows: Sequence[Row], revision: int) -> tuple[KeyValue, ...]:
    return tuple(
        KeyValue(
            key=f"/aisix/{kind}/{id}", value=json.dumps(document).encode(), mod_revision=revision, create_revision=1
        )
        for kind, id, document in rows
    )


def snapshot_of(*rows: Row, revision: int = 10) -> Snapshot:
    """All rows, read as from etcd. Asserts that none was rejected."""
    snapshot = build(Listing(_stored(rows, revision), revision), empty("/aisix"), NOON)
    assert not snapshot.rejected, list(snapshot.rejected.values())
    return snapshot


def changed(snapshot: Snapshot, *rows: Row) -> Snapshot:
    """`snapshot` after these rows were written."""
    revision = snapshot.revision + 1
    return apply(snapshot, Changes(_stored(rows, revision), revision), NOON)


def standard(api_base: str = "http://127.0.0.1:9/v1", **model_fields: Any) -> Snapshot:
    """One provider key at `api_base`, `demo-model`, and `KEY`, which may use everything."""
    return snapshot_of(provider_key(api_base=api_base), model(**model_fields), api_key())


class Clock:
    """Stands still unless moved."""

    def __init__(self, now: datetime = NOON) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def move(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


class Lines(list[dict[str, Any]]):
    """Where access-log lines end up."""

    def record(self, line: dict[str, Any]) -> None:
        self.append(line)


class Events(list[UsageEvent]):
    """Where usage events end up."""

    def record(self, event: UsageEvent) -> None:
        self.append(event)


def settings_of(**sections: Any) -> Settings:
    """The defaults, with a proxy address; `sections` as keyword arguments of Settings."""
    return Settings(**({"proxy": Proxy(addr=Address("127.0.0.1", 0))} | sections))


@dataclass
class World:
    """Services for a test, with what they write into."""

    services: Services
    metrics: Metrics
    lines: Lines
    events: Events
    clock: Clock
    lifecycle: Lifecycle

    def value(self, name: str, **labels: str) -> float:
        """A counter's or gauge's value, or a summary's count, summed over all series with these label values."""
        total = 0.0
        for family in self.metrics.collect():
            if family.name == name:
                for sample in family.samples:
                    told = dict(zip(family.labels, sample.labels, strict=True))
                    if all(told[label] == value for label, value in labels.items()):
                        total += sample.count if family.kind == "summary" else sample.value
        return total


def make(
    snapshot: Snapshot | None = None,
    *,
    settings: Settings | None = None,
    upstream: Upstream | None = None,
    sinks: tuple[UsageSink, ...] | None = None,
) -> World:
    """Real services. Without `upstream` the real client, which the caller closes."""
    metrics, lines, events, clock, lifecycle = Metrics(), Lines(), Events(), Clock(), Lifecycle()
    services = make_services(
        settings or settings_of(),
        lifecycle,
        metrics,
        lines,
        Replacements(
            upstream=upstream,
            clock=clock,
            random=lambda: 0.0,
            usage_sinks=(events,) if sinks is None else sinks,
        ),
    )
    if snapshot is not None:
        services.live.apply(snapshot)
        lifecycle.applied = True
    return World(services, metrics, lines, events, clock, lifecycle)


@dataclass
class Recorder:
    """A Downstream that keeps what was written."""

    status: int = 0
    headers: bytes = b""
    body: bytes = b""
    writes: list[bytes] = field(default_factory=list)
    committed: bool = False
    pushed: bool = False
    finished: bool = False
    aborted: bool = False
    paused: bool = False
    unsent: int = 0
    drained: asyncio.Event = field(default_factory=asyncio.Event)
    on_write: Callable[[bytes], None] | None = None

    def send(self, status: int, headers: bytes, body: bytes) -> None:
        self.begin(status, headers)
        self.write(body)
        self.finished = True

    def begin(self, status: int, headers: bytes) -> None:
        self.status, self.headers, self.committed = status, headers, True

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self.body += data
        if self.on_write is not None:
            self.on_write(data)

    def push(self) -> None:
        self.pushed = True

    def finish(self, last: bytes = b"") -> None:
        if last:
            self.write(last)
        self.finished = True

    async def drain(self) -> None:
        await self.drained.wait()
        self.paused = False

    def abort(self) -> None:
        self.aborted = True


def headers_of(headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(headers))


def exchange_of(
    world: World,
    *,
    headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
    body: Any = None,
    endpoint: Endpoint = CHAT_COMPLETIONS,
    peer: str = "192.0.2.9",
) -> Exchange:
    """One exchange; with `KEY` and JSON content unless `headers` say otherwise. `body` bytes or a JSON value."""
    if headers is None:
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    raw = body if isinstance(body, bytes) else json.dumps(body if body is not None else chat()).encode()

    async def read_body() -> bytes:
        return raw

    inbound = Inbound(endpoint.method, endpoint.path, "", headers_of(headers), peer, "request-1")
    return Exchange(world.services, endpoint, inbound, read_body, Recorder())


def recorder(exchange: Exchange) -> Recorder:
    assert isinstance(exchange.downstream, Recorder)
    return exchange.downstream


def chat(content: str = "hello", model: str = "demo-model", **more: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}


@asynccontextmanager
async def serving(world: World, edge: Callable[[Services], Edge] = make_edge) -> AsyncIterator[int]:
    """The edge on a loopback socket; gives the port. Closes a real upstream client too."""
    server = edge(world.services).server()
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await server.shutdown(1.0)
        close: Callable[[], Awaitable[None]] | None = getattr(world.services.upstream, "aclose", None)
        if close is not None:
            await close()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Let the loop run until `condition` holds; asserts that it does in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        assert loop.time() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.005)
