"""Reaching an upstream: every step that can fail, by name and in time, and TLS that checks what it should."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from aisix_common.settings import ClientTls
from aisix_common.settings import Upstream as Settings
from aisix_proxy.canonical.errors import UpstreamTimeout, UpstreamUnreachable
from aisix_proxy.canonical.http import Origin, TlsTrust, UpstreamRequest, UpstreamResponse
from aisix_proxy.upstream.client import UpstreamClient
from aisix_proxy.upstream.dial import Dialer, peer

from tests.support.authority import authority
from tests.support.playbook import Answer, Close, Expect, Gone, Line, Playbook, Reset

HELLO: list[Line] = [Expect(), Answer(200, b"hello")]


async def call(settings: Settings, origin: Origin, trust: TlsTrust | None = None) -> UpstreamResponse:
    client = UpstreamClient(settings)
    try:
        headers = (("authorization", "Bearer sk-secret"),)
        request = UpstreamRequest(origin, "POST", "/x?key=sk-secret", headers, b"", trust)
        return await client.send(request, timeout=5, max_body=100)
    finally:
        await client.aclose()
        assert (client.open_connections, client.pools) == (0, 0)


async def refused(settings: Settings, origin: Origin, trust: TlsTrust | None = None) -> str:
    with pytest.raises(UpstreamUnreachable) as error:
        await call(settings, origin, trust)
    assert "sk-secret" not in error.value.message
    return error.value.message.removeprefix("transport error: ")


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port that answers no SYN: its queue is full, and nobody accepts."""
    with socket.socket() as sock, socket.socket() as first, socket.socket() as second:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        yield sock.getsockname()[1]


def connects_to(port: int) -> int:
    """How many connections to `port` have sent their SYN and wait."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "02" for row in rows)


async def test_a_refused_connection(closed_port: int) -> None:
    message = await refused(Settings(), Origin("http", "127.0.0.1", closed_port))
    assert message == f"connect to 127.0.0.1:{closed_port}: connection refused"


async def test_an_unknown_name() -> None:
    assert await refused(Settings(), Origin("http", "no-such-host.invalid", 80)) == (
        "resolve no-such-host.invalid: no address found"
    )


@pytest.mark.parametrize("name", ["a" * 64 + ".example", "..", "\udcff"])
async def test_a_name_that_is_none(name: str) -> None:
    assert (await refused(Settings(), Origin("http", name, 80))).startswith("resolve ")


async def test_the_connect_timeout_holds_in_a_black_hole(black_hole: int) -> None:
    with pytest.raises(UpstreamTimeout, match="after 150ms"):
        await call(Settings(connect_timeout_ms=150), Origin("http", "127.0.0.1", black_hole))


async def test_the_exchanges_own_deadline_holds_in_a_black_hole(black_hole: int) -> None:
    client = UpstreamClient(Settings(connect_timeout_ms=0))
    request = UpstreamRequest(Origin("http", "127.0.0.1", black_hole), "POST", "/", (), b"")
    with pytest.raises(UpstreamTimeout, match="after 150ms"):
        await client.send(request, timeout=0.15, max_body=10)
    with pytest.raises(UpstreamTimeout, match="after 150ms"):
        await client.open(request, timeout=0.15)
    await client.aclose()
    assert client.pools == 0


async def test_a_name_with_several_addresses_is_tried_until_one_answers() -> None:
    """`localhost` is ::1 and 127.0.0.1 on most machines; the play is on one of them only."""
    async with Playbook(HELLO).on_stage(name="localhost") as upstream:
        assert (await call(Settings(), upstream.origin)).body == b"hello"


async def test_a_cancelled_connect_leaves_nothing(black_hole: int) -> None:
    client = UpstreamClient(Settings())
    request = UpstreamRequest(Origin("http", "127.0.0.1", black_hole), "POST", "/", (), b"")
    before, connecting = asyncio.all_tasks(), connects_to(black_hole)
    task = asyncio.create_task(client.send(request, timeout=None, max_body=10))
    async with asyncio.timeout(5):
        while connects_to(black_hole) == connecting:
            await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (client.open_connections, client.pools) == (0, 0)
    assert asyncio.all_tasks() == before
    assert connects_to(black_hole) == connecting
    await client.aclose()


@pytest.mark.parametrize(
    ("wanted", "taken"), [((61, 31, 7), [61, 31, 7]), ((2**31, 2**31, 2**31), [32767, 32767, 127])]
)
async def test_keepalive_settings_reach_the_socket(wanted: tuple[int, int, int], taken: list[int]) -> None:
    idle, interval, retries = wanted
    settings = Settings(tcp_keepalive_secs=idle, tcp_keepalive_interval_secs=interval, tcp_keepalive_retries=retries)
    async with Playbook(HELLO).on_stage() as upstream:
        dialer = Dialer(settings, asyncio.get_running_loop())
        sock = await dialer._connect(upstream.origin, await dialer._resolve(upstream.origin))
        with sock:
            options = [socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_NODELAY]
            assert [sock.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [*taken, 1]
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


async def test_a_socket_that_takes_no_options_is_closed_and_named() -> None:
    async with Playbook([Gone()]).on_stage() as upstream:
        dialer = Dialer(Settings(), asyncio.get_running_loop())
        dialer._options = [(socket.IPPROTO_TCP, 9999, 1)]
        with pytest.raises(UpstreamUnreachable, match=r"prepare the connection to .*: protocol not available"):
            await dialer._connect(upstream.origin, await dialer._resolve(upstream.origin))
        await asyncio.wait_for(upstream.over.wait(), 5)  # `Gone` heard the end of it


def test_peers_are_written_with_brackets() -> None:
    assert peer(Origin("https", "::1", 443)) == "[::1]:443"


# -- TLS --------------------------------------------------------------------------------------------------------------

OURS = authority()
TRUSTED = TlsTrust(ca_pem=OURS.pem)


async def test_a_trusted_provider_by_name_and_by_address(tmp_path: Path) -> None:
    for name in ("localhost", "127.0.0.1"):
        async with Playbook(HELLO).on_stage(tls=OURS.server(tmp_path, name), name=name) as upstream:
            assert (await call(Settings(), upstream.origin, TRUSTED)).body == b"hello"


async def test_connections_are_kept_over_tls_too(tmp_path: Path) -> None:
    client = UpstreamClient(Settings())
    async with Playbook([*HELLO, *HELLO]).on_stage(tls=OURS.server(tmp_path, "127.0.0.1")) as upstream:
        request = UpstreamRequest(upstream.origin, "POST", "/", (), b"x" * 300_000, TRUSTED)
        for _ in range(2):
            assert (await client.send(request, timeout=5, max_body=10)).body == b"hello"
        assert upstream.connections == 1
        await client.aclose()


async def test_the_wrong_host(tmp_path: Path) -> None:
    async with Playbook([]).on_stage(tls=OURS.server(tmp_path, "other.example"), name="localhost") as upstream:
        message = await refused(Settings(), upstream.origin, TRUSTED)
    assert message.startswith(f"TLS handshake with localhost:{upstream.origin.port}: certificate refused: Hostname mis")


async def test_an_unknown_authority(tmp_path: Path) -> None:
    async with Playbook([]).on_stage(tls=authority("Other").server(tmp_path, "127.0.0.1")) as upstream:
        assert "certificate refused: unable to get local issuer" in await refused(Settings(), upstream.origin, TRUSTED)


async def test_an_expired_certificate(tmp_path: Path) -> None:
    async with Playbook([]).on_stage(tls=OURS.server(tmp_path, "127.0.0.1", days=-1)) as upstream:
        assert "certificate has expired" in await refused(Settings(), upstream.origin, TRUSTED)


async def test_unusable_anchors_do_not_weaken_anything(tmp_path: Path) -> None:
    async with Playbook([]).on_stage(tls=OURS.server(tmp_path, "127.0.0.1")) as upstream:
        trust = TlsTrust(ca_pem="-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----", verify=False)
        assert "certificate refused" in await refused(Settings(), upstream.origin, trust)


async def test_checks_can_be_switched_off_by_key_or_for_all(tmp_path: Path) -> None:
    for settings, trust in (
        (Settings(), TlsTrust(verify=False)),
        (Settings(tls=ClientTls(verify=False)), None),
        (Settings(tls=ClientTls(verify=False)), TRUSTED),
    ):
        async with Playbook(HELLO).on_stage(tls=authority("Other").server(tmp_path, "wrong.example")) as upstream:
            assert (await call(settings, upstream.origin, trust)).body == b"hello"


async def test_a_file_of_anchors(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(OURS.pem)
    settings = Settings(tls=ClientTls(ca_file=str(tmp_path / "ca.pem")))
    async with Playbook(HELLO).on_stage(tls=OURS.server(tmp_path, "127.0.0.1")) as upstream:
        assert (await call(settings, upstream.origin)).body == b"hello"


async def test_a_file_of_anchors_that_vanished_is_named_and_the_path_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(OURS.pem)
    client = UpstreamClient(Settings(tls=ClientTls(ca_file=str(file))))
    file.unlink()
    request = UpstreamRequest(Origin("https", "127.0.0.1", 1), "POST", "/", (), b"", TlsTrust(verify=False))
    with pytest.raises(UpstreamUnreachable, match=r"TLS set-up for 127.0.0.1:1: upstream.tls.ca_file$"):
        await client.send(request, timeout=5, max_body=10)
    assert client.pools == 0


async def test_a_provider_that_wants_our_certificate(tmp_path: Path) -> None:
    server = OURS.server(tmp_path, "127.0.0.1", clients=OURS.pem)
    async with Playbook([]).on_stage(tls=server) as upstream:
        message = await refused(Settings(), upstream.origin, TRUSTED)
        assert f"127.0.0.1:{upstream.origin.port}" in message
    certificate, key = OURS.leaf().write(tmp_path, "client")
    settings = Settings(tls=ClientTls(client_cert_file=str(certificate), client_key_file=str(key)))
    async with Playbook(HELLO).on_stage(tls=server) as upstream:
        assert (await call(settings, upstream.origin, TRUSTED)).body == b"hello"


async def test_a_server_that_speaks_no_tls() -> None:
    async with Playbook([Close()]).on_stage() as upstream:
        message = await refused(Settings(), Origin("https", "127.0.0.1", upstream.origin.port))
    assert message.startswith(f"TLS handshake with 127.0.0.1:{upstream.origin.port}: ")


async def test_a_reset_during_the_handshake() -> None:
    async with Playbook([Reset()]).on_stage() as upstream:
        message = await refused(Settings(), Origin("https", "127.0.0.1", upstream.origin.port))
    assert message.startswith(f"TLS handshake with 127.0.0.1:{upstream.origin.port}: ")


async def test_a_handshake_that_never_ends() -> None:
    silent = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        origin = Origin("https", "127.0.0.1", server.sockets[0].getsockname()[1])
        with pytest.raises(UpstreamTimeout, match="after 200ms"):
            await call(Settings(connect_timeout_ms=200), origin)
        silent.set()


async def test_a_caller_that_leaves_during_the_handshake(tmp_path: Path) -> None:
    client = UpstreamClient(Settings())
    async with Playbook(HELLO, forever=True).on_stage(tls=OURS.server(tmp_path, "127.0.0.1")) as upstream:
        request = UpstreamRequest(upstream.origin, "POST", "/", (), b"", TRUSTED)
        for turns in range(0, 60, 2):
            task = asyncio.create_task(client.send(request, timeout=5, max_body=10))
            for _ in range(turns):
                await asyncio.sleep(0.0002)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(5):
            while client.in_use:
                await asyncio.sleep(0.001)
        await client.aclose()
    assert (client.open_connections, client.pools) == (0, 0)


async def test_a_trust_has_its_own_connections(tmp_path: Path) -> None:
    """A connection made without checks must never serve a key that asks for them."""
    client = UpstreamClient(Settings())
    stranger = authority("Other").server(tmp_path, "127.0.0.1")
    async with Playbook([*HELLO, Gone()], []).on_stage(tls=stranger) as upstream:
        unchecked = UpstreamRequest(upstream.origin, "POST", "/", (), b"", TlsTrust(verify=False))
        await client.send(unchecked, timeout=5, max_body=10)
        with pytest.raises(UpstreamUnreachable, match="certificate refused"):
            await client.send(UpstreamRequest(upstream.origin, "POST", "/", (), b""), timeout=5, max_body=10)
        await client.aclose()


@pytest.mark.parametrize(
    "host",
    [
        *("169.254.169.254", "fe80::1", "fd00:ec2::254", "100.100.100.200", "::ffff:169.254.169.254"),
        *("2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.16689662", "64:ff9b::a9fe:a9fe"),
    ],
)
async def test_no_spelling_leads_to_where_credentials_are_handed_out(host: str) -> None:
    reason = await refused(Settings(), Origin("http", host, 80))
    assert "upstream.metadata_hosts" in reason
