"""The client against a real etcd: values in and out, deadlines, members that are dead, identities."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from aisix_common.errors import Compacted, ConfigurationError, StoreDenied, StoreError, StoreRejected, StoreUnavailable
from aisix_common.secret import Secret
from aisix_common.settings.storage import Etcd, EtcdTls
from aisix_common.store import etcd_pb2 as pb
from aisix_common.store.client import EtcdClient, EtcdOptions
from aisix_common.store.options import TlsMaterial, etcd_options
from aisix_common.store.types import (
    Compare,
    Compared,
    Comparison,
    Delete,
    Get,
    Put,
    nothing_newer,
    unchanged,
)

from tests.support.cutproxy import CutProxy
from tests.support.etcd import Certificates, EtcdServer, free_port, make_certificates


async def test_put_get_delete(client: EtcdClient, etcd_prefix: str) -> None:
    assert await client.get(f"{etcd_prefix}/a") is None
    first = await client.put(f"{etcd_prefix}/a", b"\x00\xff")
    second = await client.put(f"{etcd_prefix}/a", b"2")
    found = await client.get(f"{etcd_prefix}/a")
    assert found is not None
    assert (found.value, found.create_revision, found.mod_revision, found.version) == (b"2", first, second, 2)
    assert await client.delete(f"{etcd_prefix}/a") == 1
    assert await client.delete(f"{etcd_prefix}/a") == 0


async def test_range(client: EtcdClient, etcd_prefix: str) -> None:
    for name in ("b", "a", "c"):
        revision = await client.put(f"{etcd_prefix}/{name}", b"1")
    await client.put(f"{etcd_prefix}0", b"the first key after the prefix")
    result = await client.range(f"{etcd_prefix}/")
    assert [row.key[-1] for row in result.rows] == ["a", "b", "c"]
    assert result.revision > revision and not result.more and result.count == 3
    limited = await client.range(f"{etcd_prefix}/", limit=2)
    assert len(limited.rows) == 2 and limited.more and limited.count == 3
    then = await client.range(f"{etcd_prefix}/", revision=revision - 1)
    assert [row.key[-1] for row in then.rows] == ["a", "b"]
    assert await client.delete(f"{etcd_prefix}/", prefix=True) == 3


async def test_an_answer_above_four_megabytes(client: EtcdClient, etcd_prefix: str) -> None:
    for number in range(5):
        await client.put(f"{etcd_prefix}/{number}", b"x" * 1_000_000)
    assert sum(len(row.value) for row in (await client.range(etcd_prefix)).rows) == 5_000_000
    await client.delete(etcd_prefix, prefix=True)


async def test_a_compacted_revision(fresh_client: EtcdClient) -> None:
    old = await fresh_client.put("a", b"1")
    await fresh_client.compact(await fresh_client.put("a", b"2"))
    with pytest.raises(Compacted):
        await fresh_client.range("a", revision=old)
    with pytest.raises(StoreRejected, match="future"):
        await fresh_client.range("a", revision=1_000_000)


async def test_transaction_answers_per_operation(client: EtcdClient, etcd_prefix: str) -> None:
    key = f"{etcd_prefix}/a"
    made = await client.txn([unchanged(key, 0)], [Put(key, b"1"), Get(etcd_prefix, prefix=True)])
    assert made.succeeded
    assert made.reads[0] == () and [row.value for row in made.reads[1]] == [b"1"]
    again = await client.txn([unchanged(key, 0)], [Put(key, b"2")], [Get(key)])
    assert not again.succeeded
    assert again.reads[0][0].mod_revision == made.revision
    gone = await client.txn([unchanged(key, made.revision)], [Delete(etcd_prefix, prefix=True)])
    assert gone.succeeded and await client.get(key) is None


@pytest.mark.parametrize(
    ("target", "how", "number", "expected"),
    [
        (Compared.VERSION, Comparison.EQUAL, 2, True),
        (Compared.VERSION, Comparison.GREATER, 2, False),
        (Compared.VERSION, Comparison.GREATER, 1, True),
        (Compared.VERSION, Comparison.NOT_EQUAL, 2, False),
        (Compared.CREATE, Comparison.GREATER, 0, True),
        (Compared.CREATE, Comparison.EQUAL, 0, False),
        (Compared.MOD, Comparison.LESS, 1, False),
        (Compared.MOD, Comparison.NOT_EQUAL, 1, True),
    ],
)
async def test_comparisons(
    client: EtcdClient, etcd_prefix: str, target: Compared, how: Comparison, number: int, expected: bool
) -> None:
    await client.put(etcd_prefix, b"1")
    await client.put(etcd_prefix, b"2")
    assert (await client.txn([Compare(etcd_prefix, target, how, number)], [])).succeeded is expected


async def test_a_range_compare_sees_foreign_writers(client: EtcdClient, etcd_prefix: str) -> None:
    names = f"{etcd_prefix}/models/"
    await client.put(f"{names}a", b"1")
    read = await client.range(names)
    assert (await client.txn([nothing_newer(names, read.revision)], [Put(f"{names}b", b"mine")])).succeeded
    assert not (await client.txn([nothing_newer(names, read.revision)], [Put(f"{names}c", b"mine")])).succeeded
    read = await client.range(names)
    await client.put(f"{etcd_prefix}/elsewhere", b"not under it")
    assert (await client.txn([nothing_newer(names, read.revision)], [Put(f"{names}c", b"mine")])).succeeded


async def test_two_keys_twice_in_one_transaction_are_refused(client: EtcdClient, etcd_prefix: str) -> None:
    with pytest.raises(StoreRejected, match="duplicate key"):
        await client.txn([], [Put(etcd_prefix, b"1"), Put(etcd_prefix, b"2")])


async def test_status_and_alarms(client: EtcdClient) -> None:
    status = await client.status()
    assert status.version.startswith("3.") and status.leader == status.member_id != 0
    assert status.db_size >= status.db_size_in_use > 0 and status.cluster_id and status.raft_term
    assert await client.alarms() == ()


async def test_a_full_etcd_says_what_to_do(tmp_path: Path) -> None:
    with EtcdServer(tmp_path, arguments=("--quota-backend-bytes", "2000000")) as server:
        async with EtcdClient(EtcdOptions(endpoints=(server.endpoint,))) as client:
            with pytest.raises(StoreRejected, match="compact and defragment"):
                for number in range(100):
                    await client.put(f"/{number}", b"x" * 200_000)
            assert await client.alarms() == ("NOSPACE",)


async def test_nobody_listens(unused_endpoint: str) -> None:
    async with EtcdClient(EtcdOptions(endpoints=(unused_endpoint,), request_timeout=0.3)) as client:
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match=unused_endpoint):
            await client.get("a")
        with pytest.raises(StoreUnavailable):
            await client.put("a", b"1")
        assert time.monotonic() - started < 2


@pytest.fixture
def unused_endpoint() -> str:
    return f"127.0.0.1:{free_port()}"


async def test_silence_ends_at_the_deadline(etcd: EtcdServer) -> None:
    async with CutProxy(etcd.port) as link:
        options = EtcdOptions(endpoints=(link.endpoint,), request_timeout=0.4)
        async with EtcdClient(options) as client:
            await client.get("a")
            link.black_hole()
            for call in (
                client.get("a"),
                client.put("a", b"1"),
                client.grant(5),
                client.keep_alive(1),
                client.status(),
            ):
                started = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    await call
                assert time.monotonic() - started < 1.2


async def test_closing_ends_calls_in_flight_without_cancelling_their_tasks(etcd: EtcdServer) -> None:
    async with CutProxy(etcd.port) as link:
        client = EtcdClient(EtcdOptions(endpoints=(link.endpoint,)))
        await client.get("a")
        link.black_hole()
        call = asyncio.create_task(client.put("a", b"1"))
        await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises(StoreUnavailable, match="closed"):
            await call


async def test_a_write_that_may_have_arrived_is_not_repeated(etcd: EtcdServer, etcd_prefix: str) -> None:
    """The answer is lost on the way: etcd has it, we do not know; a second try would write twice."""
    async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as straight, CutProxy(etcd.port) as link:
        async with EtcdClient(EtcdOptions(endpoints=(link.endpoint,))) as client:
            await client.get("a")
            link.mute()
            write = asyncio.create_task(client.put(etcd_prefix, b"1"))
            while await straight.get(etcd_prefix) is None:
                assert not write.done()
            link.cut()
            with pytest.raises(StoreUnavailable):
                await write
            written = await straight.get(etcd_prefix)
            assert written is not None and written.version == 1


async def test_a_read_is_repeated_once(etcd: EtcdServer) -> None:
    async with CutProxy(etcd.port) as link, EtcdClient(EtcdOptions(endpoints=(link.endpoint,))) as client:
        await client.get("a")
        link.cut_after(1)
        assert await client.get("a") is None
        assert not link.cut_pending


async def test_a_write_waits_for_an_etcd_that_is_coming_back(etcd: EtcdServer, etcd_prefix: str) -> None:
    """It never left us while nobody listened, so it is safe to send it later."""
    async with CutProxy(etcd.port) as link, EtcdClient(EtcdOptions(endpoints=(link.endpoint,))) as client:
        await client.get("a")
        await link.refuse()
        while True:  # until the client's connection has noticed
            try:
                async with asyncio.timeout(0.5):
                    await client.get("a")
            except (StoreUnavailable, TimeoutError):
                break
        write = asyncio.create_task(client.put(etcd_prefix, b"1"))
        await link.heal()
        assert await write > 0


async def test_several_endpoints_one_dead(etcd: EtcdServer, unused_endpoint: str, etcd_prefix: str) -> None:
    for endpoints in ((unused_endpoint, etcd.endpoint), (etcd.endpoint, unused_endpoint)):
        async with EtcdClient(EtcdOptions(endpoints=endpoints)) as client:
            started = time.monotonic()
            await client.put(etcd_prefix, b"1")
            await client.get(etcd_prefix)
            assert time.monotonic() - started < 1


async def test_several_endpoints_one_dies(etcd: EtcdServer, etcd_prefix: str) -> None:
    async with CutProxy(etcd.port) as first, CutProxy(etcd.port) as second:
        options = EtcdOptions(endpoints=(first.endpoint, second.endpoint), request_timeout=1)
        async with EtcdClient(options) as client:
            await client.put(etcd_prefix, b"1")
            first.black_hole()
            assert await client.get(etcd_prefix) is not None
            assert second.accepted == 1


async def test_a_host_name(etcd: EtcdServer) -> None:
    async with EtcdClient(EtcdOptions(endpoints=(f"http://localhost:{etcd.port}",))) as client:
        await client.status()


def test_endpoints_that_make_no_sense() -> None:
    with pytest.raises(ConfigurationError):
        EtcdClient(EtcdOptions(endpoints=()))


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def _material(certificates: Certificates, **changes: bytes | str | None) -> TlsMaterial:
    material = TlsMaterial(
        ca=certificates.ca.read_bytes(),
        certificate=certificates.client_cert.read_bytes(),
        key=certificates.client_key.read_bytes(),
    )
    return replace(material, **changes)  # type: ignore[arg-type]


async def _get(server: EtcdServer, tls: TlsMaterial | None, host: str = "127.0.0.1") -> None:
    options = EtcdOptions(endpoints=(f"https://{host}:{server.port}",), tls=tls, request_timeout=0.7)
    async with EtcdClient(options) as client:
        await client.get("a")


async def test_tls(tmp_path: Path, certificates: Certificates) -> None:
    with EtcdServer(tmp_path, certificates=certificates) as server:
        only_ca = TlsMaterial(ca=certificates.ca.read_bytes())
        await _get(server, only_ca)
        await _get(server, only_ca, "localhost")
        await _get(server, replace(only_ca, domain_name="etcd.test"))
        for wrong in (
            replace(only_ca, domain_name="other.test"),
            TlsMaterial(ca=certificates.foreign_ca.read_bytes()),
            None,
        ):
            with pytest.raises(StoreDenied, match=r"etcd\.tls"):
                await _get(server, wrong)


async def test_mutual_tls(tmp_path: Path, certificates: Certificates) -> None:
    with EtcdServer(tmp_path, certificates=certificates, client_auth=True) as server:
        await _get(server, _material(certificates))
        foreign = (certificates.foreign_cert.read_bytes(), certificates.foreign_key.read_bytes())
        with pytest.raises(StoreUnavailable):
            await _get(server, _material(certificates, certificate=foreign[0], key=foreign[1]))
        with pytest.raises(StoreUnavailable):
            await _get(server, _material(certificates, certificate=None, key=None))


async def test_certificates_that_are_renewed_are_taken_up_without_a_restart(tmp_path: Path) -> None:
    """Of another authority even, with a client that is connected all the time; broken files change nothing."""
    made = make_certificates(tmp_path / "made")
    tls = EtcdTls(
        ca_cert_file=str(made.ca), client_cert_file=str(made.client_cert), client_key_file=str(made.client_key)
    )
    with EtcdServer(tmp_path / "etcd", certificates=made, client_auth=True) as server:
        settings = Etcd(endpoints=(f"https://127.0.0.1:{server.port}",), tls=tls, request_timeout_ms=700)
        async with EtcdClient(etcd_options(settings, {})) as client:
            assert await client.get("a") is None
            newer = make_certificates(tmp_path / "newer")
            for old, new in ((made.server_cert, newer.server_cert), (made.server_key, newer.server_key)):
                old.write_bytes(new.read_bytes())
            client_files = {made.client_cert: newer.client_cert, made.client_key: newer.client_key, made.ca: newer.ca}
            made.ca.write_bytes(newer.ca.read_bytes())
            made.client_cert.write_text("half written")
            await asyncio.to_thread(server.restart)
            with pytest.raises((StoreDenied, StoreUnavailable)):
                await client.get("a")
            for old, new in client_files.items():
                old.write_bytes(new.read_bytes())
            with pytest.raises((StoreDenied, StoreUnavailable)):
                await client.get("a")  # notices
            assert await client.get("a") is None


# User and password


@pytest.fixture
async def guarded(fresh_etcd: EtcdServer) -> tuple[EtcdServer, EtcdOptions]:
    """An etcd with authentication, and options of a user that may do everything."""
    await asyncio.to_thread(fresh_etcd.enable_auth, "gateway", "pass word")
    return fresh_etcd, EtcdOptions(endpoints=(fresh_etcd.endpoint,), user="gateway", password=Secret("pass word"))


def _restart_cleanly(server: EtcdServer) -> None:
    """After a kill, etcd may replay the login from its log, and know the token again."""
    server.stop()
    server.start()


async def test_login_survives_a_restart(guarded: tuple[EtcdServer, EtcdOptions]) -> None:
    server, options = guarded
    async with EtcdClient(options) as client:
        await client.put("a", b"1")
        for _ in range(2):
            await asyncio.to_thread(_restart_cleanly, server)
            await client.put("a", b"2")  # a write, too: a refused token proves that nothing was done
            assert await client.get("a") is not None
            lease = await client.grant(10)
            assert await client.keep_alive(lease) == 10


async def test_many_calls_share_one_new_login(guarded: tuple[EtcdServer, EtcdOptions]) -> None:
    server, options = guarded
    async with EtcdClient(options) as client:
        await client.get("a")
        await asyncio.to_thread(_restart_cleanly, server)
        started = time.monotonic()
        await asyncio.gather(*(client.get("a") for _ in range(50)))
        assert time.monotonic() - started < 2, "etcd checks a password in some 50 ms: fifty logins would show"


async def test_wrong_or_missing_password(guarded: tuple[EtcdServer, EtcdOptions]) -> None:
    _, options = guarded
    async with EtcdClient(replace(options, password=Secret("wrong"))) as client:
        with pytest.raises(StoreDenied, match=r"etcd\.password_env") as refusal:
            await client.get("a")
        assert "wrong" not in str(refusal.value)
    async with EtcdClient(replace(options, user=None, password=None)) as client:
        with pytest.raises(StoreDenied):
            await client.get("a")


async def test_a_role_that_forbids(guarded: tuple[EtcdServer, EtcdOptions]) -> None:
    server, options = guarded
    for command in (
        ("user", "add", "reader:secret"),
        ("role", "add", "reader"),
        ("role", "grant-permission", "reader", "--prefix=true", "read", "/aisix"),
        ("user", "grant-role", "reader", "reader"),
    ):
        await asyncio.to_thread(server.ctl, *command)
    async with EtcdClient(replace(options, user="reader", password=Secret("secret"))) as client:
        await client.range("/aisix/")
        for _ in range(2):
            with pytest.raises(StoreDenied):
                await client.put("/aisix/a", b"1")
        with pytest.raises(StoreDenied):
            await client.range("/other")


async def test_a_user_where_authentication_is_off_is_used_once_it_is_on(fresh_etcd: EtcdServer) -> None:
    options = EtcdOptions(endpoints=(fresh_etcd.endpoint,), user="gateway", password=Secret("pass word"))
    async with EtcdClient(options) as client:
        await client.put("a", b"1")
        await asyncio.to_thread(fresh_etcd.enable_auth, "gateway", "pass word")
        await client.put("a", b"2")


# A cancelled watch: etcd leaves the stream open, and silent


class Watches(grpc.GenericRpcHandler):
    """An etcd that knows watches only: it creates one, cancels it, and keeps the stream open."""

    def __init__(self, **cancellation: Any) -> None:
        self._cancellation = cancellation

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method != "/etcdserverpb.Watch/Watch":
            return None
        return grpc.stream_stream_rpc_method_handler(
            self._watch, pb.WatchRequest.FromString, pb.WatchResponse.SerializeToString
        )

    async def _watch(
        self, requests: AsyncIterator[pb.WatchRequest], context: object
    ) -> AsyncIterator[pb.WatchResponse]:
        header = pb.ResponseHeader(revision=5)
        yield pb.WatchResponse(header=header, created=True)
        yield pb.WatchResponse(header=header, canceled=True, **self._cancellation)
        async for _request in requests:
            pass


@pytest.mark.parametrize(
    ("cancellation", "expected"),
    [
        ({"compact_revision": 4}, Compacted),
        ({"cancel_reason": "etcdserver: permission denied"}, StoreDenied),
        ({"cancel_reason": "etcdserver: no leader"}, StoreUnavailable),
    ],
)
async def test_a_cancelled_watch_raises(cancellation: dict[str, Any], expected: type[StoreError]) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Watches(**cancellation),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async def requests() -> AsyncIterator[pb.WatchRequest]:
        yield pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"a"))
        await asyncio.Event().wait()

    try:
        async with EtcdClient(EtcdOptions(endpoints=(f"127.0.0.1:{port}",))) as client:
            call = await client.watch(requests())
            assert (await call.read(5)).created
            with pytest.raises(expected):
                await call.read(5)
            call.close()
            with pytest.raises(StoreRejected, match="Method not found"):
                await client.status()
    finally:
        await server.stop(None)
