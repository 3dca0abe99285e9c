"""The Cloud as one object: authority, etcd, HTTP app and the port before both. What it can do stands in the package."""

import asyncio
import datetime as dt
import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from aisix_common.resources import EXTERNAL_KINDS
from aisix_common.store.client import EtcdClient, EtcdOptions
from aisix_common.store.options import TlsMaterial
from aisix_common.store.types import KeyValue, Put

from .endpoints import Endpoints, Troubles, server_context
from .enrolment import Enrolment
from .front import Front, Lane
from .issuer import DAY, Bundle, Issuer, private_pem
from .ledger import Event, Heartbeat, Ledger
from .tenants import ROOT, TenantEtcd, admit, roots
from tests.support.doubles import listening
from tests.support.etcd import Certificates

_EXTERNAL: Final = frozenset(kind.name for kind in EXTERNAL_KINDS)
_BATCH: Final = 100


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Cloud:
    """One AISIX Cloud; belongs to the loop it is opened in."""

    def __init__(self, folder: Path, *, port: int = 0, now: Callable[[], dt.datetime] = _now) -> None:
        """`port` 0: any. `now` is the clock of the tokens; certificates follow the real one, as TLS does."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._state = folder / "state.json"
        kept = json.loads(self._state.read_text()) if self._state.exists() else {}
        environments: Sequence[str] = kept.get("environments") or [str(uuid.uuid4()), str(uuid.uuid4())]
        self.a, self.b = environments
        self.issuer = Issuer(folder / "authority")
        self.enrolment = Enrolment(self.issuer, now, kept.get("tokens", {}))
        self.ledger = Ledger(folder / "events.jsonl")
        self.front = Front(port)
        self.dp = Endpoints(self.issuer, self.enrolment, self.ledger, self._save)
        self.dp.environments = frozenset(environments)
        server = self.issuer.server(folder, "server")
        root = self.issuer.server(folder, "root", client=ROOT)
        certificates = Certificates(self.issuer.ca_file, *server, *root, self.issuer.ca_file, *root)
        self.etcd = TenantEtcd(folder / "etcd", certificates, self.issuer.crl_file)
        self.root_files = (self.issuer.ca_file, *root)
        """Authority, certificate and key of who may do everything in etcd (at `etcd.endpoint`, past the front)."""
        ca, certificate, key = (path.read_bytes() for path in self.root_files)
        self._root = TlsMaterial(ca=ca, certificate=certificate, key=key)
        self._tls = server_context(self.issuer, server)
        self._client: EtcdClient | None = None
        self._open = AsyncExitStack()
        self._save()

    @property
    def endpoint(self) -> str:
        """`host:port` of everything, as `managed.cp_etcd_endpoint` wants it."""
        return f"127.0.0.1:{self.front.port}"

    @property
    def url(self) -> str:
        """The same as `managed.cp_base_url` wants it."""
        return f"https://{self.endpoint}"

    @property
    def heartbeats(self) -> Sequence[Heartbeat]:
        """In the order of their arrival."""
        return self.ledger.heartbeats

    @property
    def events(self) -> Mapping[tuple[str, int], Event]:
        """Each usage event once, by request id and attempt index, in the order of their arrival."""
        return self.ledger.events

    @property
    def budgets(self) -> MutableMapping[str, Mapping[str, Any]]:
        """The answer of `/dp/budget_check` by API key id. A key without one is allowed."""
        return self.dp.budgets

    @property
    def troubles(self) -> Troubles:
        """What calls of `/dp/*` meet."""
        return self.dp.troubles

    def token(self, env_id: str) -> str:
        """A new one-time token of that environment."""
        token = self.enrolment.token(env_id)
        self._save()
        return token

    def issue(
        self, env_id: str, *, lifetime: dt.timedelta = DAY, dp_id: str = "", uris: Sequence[str] | None = None
    ) -> Bundle:
        """A certificate and its key, without a token. Negative `lifetime`: it ended that long ago. `uris`: other URI
        SANs than the two it should have."""
        key = ec.generate_private_key(ec.SECP256R1())
        signed, identity = self.issuer.sign(key.public_key(), env_id, dp_id or str(uuid.uuid4()), lifetime, uris=uris)
        return Bundle(signed, private_pem(key), self.issuer.ca, identity)

    async def revoke(self, serial: int) -> None:
        """Take this certificate back. etcd looks at the list when a connection begins, so the open ones are cut."""
        self.issuer.revoke(serial)
        self.front.cut(Lane.ETCD)
        await asyncio.sleep(0)

    async def put(self, env_id: str, kind: str, row_id: str, document: object) -> int:
        """Write a row of an environment; the revision it was written at."""
        return await self.put_raw(key_of(env_id, kind, row_id), json.dumps(document).encode())

    async def put_raw(self, key: str, value: bytes) -> int:
        """Write whatever it is."""
        return await self._store.put(key, value)

    async def put_many(self, env_id: str, kind: str, documents: Mapping[str, object]) -> int:
        """Write rows of an environment, 100 at one revision; the last of these."""
        puts = [
            Put(key_of(env_id, kind, row_id), json.dumps(document).encode()) for row_id, document in documents.items()
        ]
        revision = 0
        for start in range(0, len(puts), _BATCH):
            revision = (await self._store.txn((), puts[start : start + _BATCH])).revision
        return revision

    async def delete(self, env_id: str, kind: str, row_id: str) -> None:
        """Delete a row of an environment."""
        await self._store.delete(key_of(env_id, kind, row_id))

    async def wipe(self, env_id: str) -> None:
        """Delete all rows of an environment."""
        for root in roots(env_id):
            await self._store.delete(root, prefix=True)

    async def rows(self, env_id: str) -> tuple[KeyValue, ...]:
        """All rows of an environment."""
        return tuple([row for root in roots(env_id) for row in (await self._store.range(root)).rows])

    async def revision(self) -> int:
        """etcd's revision now."""
        return (await self._store.status()).revision

    async def compact(self) -> None:
        """Forget all history."""
        await self._store.compact(await self.revision())

    async def snapshot(self, name: str) -> None:
        """Keep etcd's state of now under this name."""
        await asyncio.to_thread(self.etcd.snapshot, self.folder / f"{name}.snapshot")

    async def restore(self, name: str) -> None:
        """etcd goes back to that state, and to its revision: same cluster id."""
        await asyncio.to_thread(self.etcd.restore, self.folder / f"{name}.snapshot")
        await self._reconnect()

    async def replace(self) -> None:
        """Another etcd with nothing in it takes the place: another cluster id, revisions from the start."""
        await asyncio.to_thread(self.etcd.replace)
        await self._reconnect()

    async def kill_etcd(self) -> None:
        """SIGKILL, and wait until it is gone. The app stays."""
        await asyncio.to_thread(self.etcd.kill)

    async def start_etcd(self) -> None:
        """Start it again on its data."""
        await asyncio.to_thread(self.etcd.start)
        await self._reconnect()

    async def open(self) -> None:
        """Start everything; it can be used when this returns."""
        try:
            self._open.push_async_callback(asyncio.to_thread, self.etcd.kill)
            await asyncio.to_thread(self.etcd.start)
            self._open.push_async_callback(self._disconnect)
            await self._reconnect()
            app = await self._open.enter_async_context(listening(self.dp.app(), self._tls))
            self._open.push_async_callback(self.front.close)
            await self.front.open(etcd=self.etcd.port, app=app)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End everything; the folder stays."""
        await self._open.aclose()

    @property
    def _store(self) -> EtcdClient:
        assert self._client is not None, "the Cloud is not open"
        return self._client

    async def _reconnect(self) -> None:
        """A client of the etcd that runs now, which knows its users."""
        await self._disconnect()
        await admit(self.etcd.endpoint, self._root, (self.a, self.b))
        self._client = EtcdClient(EtcdOptions(endpoints=(self.etcd.endpoint,), tls=self._root))

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _save(self) -> None:
        new = self._state.with_suffix(".new")
        new.write_text(json.dumps({"environments": [self.a, self.b], "tokens": self.enrolment.tokens}))
        new.rename(self._state)


def key_of(env_id: str, kind: str, row_id: str) -> str:
    """The etcd key of a row."""
    return f"{roots(env_id)[kind in _EXTERNAL]}{kind}/{row_id}"


@asynccontextmanager
async def cloud(folder: Path, *, port: int = 0, now: Callable[[], dt.datetime] = _now) -> AsyncIterator[Cloud]:
    """A Cloud while the context lasts."""
    running = Cloud(folder, port=port, now=now)
    await running.open()
    try:
        yield running
    finally:
        await running.close()
