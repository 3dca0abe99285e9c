"""The service frame: request ids, listeners, pages, and a life from start to drained, with real sockets and signals."""

import asyncio
import http.client
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from aisix_common.errors import ConfigurationError
from aisix_common.metrics import Metrics
from aisix_common.service import (
    SERVER,
    Lifecycle,
    Listener,
    acceptable_request_id,
    chosen_request_id,
    metrics_listener,
    new_request_id,
    serve_pages,
)
from aisix_common.service.headers import request_ids
from aisix_common.service.listener import CannotListen, bind, open_listener, reserve, tls_context
from aisix_common.service.pages import normalised
from aisix_common.service.run import drain
from aisix_common.settings import Address, ListenerTls

from tests.support.authority import authority
from tests.support.child_modules import Programs
from tests.support.kit_service import SLOW_START, Running

ANY = Address("127.0.0.1", 0)
SETTING = "observability.metrics.prometheus.addr"


# Request ids


def test_request_ids_are_random_uuids() -> None:
    ids = [new_request_id() for _ in range(100)] + list(islice(request_ids(), 600))
    assert len(set(ids)) == 700
    for text in ids:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, uuid.RFC_4122)


@pytest.mark.parametrize("value", ["a", "x" * 256, "!~", "7f3e", 'a"b'])
def test_ids_a_caller_may_choose(value: str) -> None:
    assert acceptable_request_id(value)


@pytest.mark.parametrize("value", ["", "x" * 257, "a b", "a\n", "a\t", "\x7f", "é", "\r\nx: y"])
def test_ids_a_caller_may_not_choose(value: str) -> None:
    assert not acceptable_request_id(value)


def test_the_first_acceptable_header_wins() -> None:
    headers = {"x-one": "not acceptable", "x-two": "two", "x-three": "three"}
    assert chosen_request_id(headers, ["x-zero", "x-one", "x-two", "x-three"]) == "two"
    assert chosen_request_id(headers, ["x-one"]) is None
    assert chosen_request_id(headers, []) is None


# Lifecycle


def test_a_drain_is_announced_once() -> None:
    lifecycle = Lifecycle()
    told: list[str] = []
    lifecycle.on_drain(lambda: told.append("early"))
    lifecycle.begin_drain()
    lifecycle.begin_drain()
    lifecycle.on_drain(lambda: told.append("late"))
    assert told == ["early", "late"]


def test_a_hangup_is_told_to_whoever_asked() -> None:
    lifecycle = Lifecycle()
    assert not lifecycle.reload()
    told: list[str] = []
    lifecycle.on_reload(lambda: told.append("one"))
    lifecycle.on_reload(lambda: told.append("two"))
    assert lifecycle.reload()
    assert lifecycle.reload()
    assert told == ["one", "two"] * 2


async def test_the_first_reason_to_stop_decides_the_exit_code() -> None:
    lifecycle = Lifecycle()
    lifecycle.stop(7)
    lifecycle.stop(0)
    await lifecycle.stopped()
    assert lifecycle.exit_code == 7


@pytest.mark.looptime
async def test_a_drain_waits_its_minimum_even_when_idle() -> None:
    lifecycle, loop = Lifecycle(), asyncio.get_running_loop()
    begun = loop.time()
    await drain(lifecycle, 30)
    assert loop.time() - begun == pytest.approx(30)
    assert lifecycle.draining


@pytest.mark.looptime
async def test_a_drain_waits_for_the_last_byte_without_a_deadline() -> None:
    lifecycle, loop = Lifecycle(), asyncio.get_running_loop()
    lifecycle.enter()
    loop.call_later(300, lifecycle.leave)
    begun = loop.time()
    await drain(lifecycle, 0)
    assert 300 <= loop.time() - begun < 300.3


# Listeners


def listener(make: Callable[[], Any], **more: Any) -> Listener:
    return Listener("proxy", "proxy.addr", ANY, make, **more)


async def test_an_address_in_use_is_refused_with_what_to_do() -> None:
    opened = await open_listener(listener(lambda: serve_pages({})))
    port = int(opened.url.rpartition(":")[2])
    again = replace(opened.listener, address=Address("127.0.0.1", port))
    with pytest.raises(CannotListen) as caught:
        await open_listener(again)
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{port} (proxy.addr): address already in use; "
        "stop the process that has it, or change proxy.addr"
    )
    await opened.close(0)


def test_a_gateway_that_shares_its_port_is_noticed() -> None:
    address, held = reserve(ANY, "proxy.addr")
    with closing(held), closing(bind(address, "proxy.addr", reuse_port=True)) as worker:
        worker.listen()
        with pytest.raises(CannotListen, match="already in use"):
            reserve(address, "proxy.addr")
        with closing(bind(address, "proxy.addr", reuse_port=True)) as second:
            second.listen()


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(CannotListen, match=r"192\.0\.2\.1:4000 \(proxy\.addr\): no such address"):
        bind(Address("192.0.2.1", 4000), "proxy.addr")


async def test_ipv6() -> None:
    try:
        opened = await open_listener(replace(listener(lambda: serve_pages({})), address=Address("::1", 0)))
    except CannotListen:
        pytest.skip("no IPv6 on this machine")
    assert opened.url.startswith("http://[::1]:")
    await opened.close(0)


async def test_what_cannot_be_parsed_is_not_quoted() -> None:
    opened = await open_listener(listener(lambda: serve_pages({})))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(opened.url.rpartition(":")[2]))
    writer.write(b"GET / HTTP/1.1\r\nAuthorization Bearer canary-9191\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await opened.close(0)
    assert answer.split(b"\r\n")[0].endswith(b" 400 Bad Request")
    assert b"canary-9191" not in answer
    assert b"Server: AISIX/" in answer


async def test_accepted_sockets_send_at_once() -> None:
    options: list[int] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        raw = request.transport.get_extra_info("socket")
        options.append(raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return web.Response()

    opened = await open_listener(listener(lambda: web.Server(handle)))
    async with aiohttp.ClientSession() as http_client, http_client.get(opened.url):
        pass
    await opened.close(0)
    assert options[0] != 0


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_tls_from_files(tmp_path: Path) -> None:
    cert_file, key_file = map(str, authority().leaf("localhost").write(tmp_path, "localhost"))

    async def page() -> tuple[int, str, bytes]:
        return 200, "text/plain", b"over TLS"

    opened = await open_listener(
        listener(lambda: serve_pages({"/": page}), tls=ListenerTls(cert_file=cert_file, key_file=key_file))
    )
    port = int(opened.url.rpartition(":")[2])
    assert opened.url == f"https://127.0.0.1:{port}"
    trust = ssl.create_default_context(cadata=authority().pem)
    trust.set_alpn_protocols(["h2", "http/1.1"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname="localhost")
    tls = writer.get_extra_info("ssl_object")
    assert tls.selected_alpn_protocol() == "http/1.1"
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).endswith(b"over TLS")
    writer.close()
    old = ssl.create_default_context(cafile=cert_file)
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", port, ssl=old, server_hostname="localhost")
    await opened.close(0)


def test_tls_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    cert_file, key_file = map(str, authority().leaf("localhost").write(tmp_path, "localhost"))
    other_key = str(authority().leaf("other.test").write(tmp_path, "other.test")[1])
    empty = tmp_path / "empty.pem"
    empty.write_text("canary-5151")
    missing = str(tmp_path / "missing.pem")
    for cert, key, where in (
        (missing, key_file, "proxy.tls.cert_file"),
        (cert_file, missing, "proxy.tls.key_file"),
        (str(tmp_path), key_file, "proxy.tls.cert_file"),
        (cert_file, other_key, "proxy.tls"),
        (str(empty), key_file, "proxy.tls"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            tls_context(ListenerTls(cert_file=cert, key_file=key), "proxy.tls")
        assert caught.value.problems[0].path == where
        assert "canary" not in str(caught.value)


# Pages


@pytest.mark.parametrize(
    ("configured", "served"), [("", "/metrics"), ("  ", "/metrics"), ("m", "/m"), (" /a/b ", "/a/b")]
)
def test_the_path_of_the_metrics_page(configured: str, served: str) -> None:
    assert normalised(configured) == served


async def test_the_metrics_listener() -> None:
    async def config() -> tuple[int, str, bytes]:
        return 200, "application/json", b"{}"

    async def broken() -> tuple[int, str, bytes]:
        raise LookupError("canary")

    metrics = Metrics()
    metrics.counter("calls_total", "Calls.").cell().add(3)
    made = metrics_listener(
        metrics, {"/status/config": config, "/broken": broken}, address=ANY, path="numbers", setting=SETTING
    )
    opened = await open_listener(made)
    async with aiohttp.ClientSession(opened.url) as client:
        async with client.get("/numbers") as answer:
            text = await answer.text()
            assert (answer.status, answer.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
            assert answer.headers["Server"] == SERVER
        assert "calls_total 3.0" in text
        assert "process_cpu_seconds_total" in text
        async with client.head("/numbers") as answer:
            assert (answer.status, await answer.read()) == (200, b"")
            assert int(answer.headers["Content-Length"]) > 100
        async with client.get("/status/config?x=1") as answer:
            assert (answer.status, answer.content_type, await answer.read()) == (200, "application/json", b"{}")
        async with client.post("/status/config", data=b"x") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")
        for path in ("/metrics", "/families", "/numbers/"):
            async with client.get(path) as answer:
                assert (answer.status, await answer.read()) == (404, b"")
        async with client.get("/broken") as answer:
            assert (answer.status, await answer.read()) == (500, b"")
    await opened.close(0)


@pytest.mark.looptime
@pytest.mark.parametrize(("idle_seconds", "kept"), [(0, 75), (7, 7), (300, 300)])
async def test_how_long_a_scraper_may_idle(idle_seconds: float, kept: float) -> None:
    loop = asyncio.get_running_loop()
    made = metrics_listener(Metrics(), {}, address=ANY, setting=SETTING, idle_seconds=idle_seconds)
    near, far = socket.socketpair()
    with closing(far):
        far.setblocking(False)
        await loop.connect_accepted_socket(made.make(), near)
        await loop.sock_sendall(far, b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await loop.sock_recv(far, 65536)).startswith(b"HTTP/1.1 404")
        begun = loop.time()
        assert await loop.sock_recv(far, 65536) == b""
        assert loop.time() - begun == pytest.approx(kept, abs=2)


def test_the_metrics_path_may_not_hide_another_page() -> None:
    async def page() -> tuple[int, str, bytes]:
        return 200, "", b""

    with pytest.raises(ConfigurationError, match=r"prometheus\.path: /status/config is taken"):
        metrics_listener(Metrics(), {"/status/config": page}, address=ANY, path="status/config", setting=SETTING)


# A life, in a process of its own


def get(url: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    with closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_an_idle_service_is_gone_within_a_second(tmp_path: Path) -> None:
    with Running(tmp_path, {}) as kit:
        urls = kit.urls("proxy", "metrics")
        kit.read_until("started")
        # A kept-alive connection, one that said nothing yet, and one in the middle of a request's head.
        host, _, port = urls["proxy"].removeprefix("http://").rpartition(":")
        kept = http.client.HTTPConnection(host, int(port), timeout=10)
        kept.request("GET", "/livez")
        assert kept.getresponse().read() == b"ok"
        silent = socket.create_connection((host, int(port)))
        half = socket.create_connection((host, int(port)))
        half.sendall(b"GET /livez HTTP/1.1\r\nHo")
        assert b"\naisix_log_lines_dropped_total 0.0\n" in get(urls["metrics"], "/metrics")[1]
        begun = kit.signal(signal.SIGTERM)
        assert kit.end() == 0
        assert time.monotonic() - begun < 1.0
        for connection in (kept, silent, half):
            connection.close()
    assert kit.plain == ["stack closed"]
    events = [line["message"] for line in kit.lines]
    assert events[0] == "a warning"
    assert [events.index(event) for event in ("signal received", "draining", "stopped")] == sorted(
        events.index(event) for event in ("signal received", "draining", "stopped")
    )
    assert {line["service"] for line in kit.lines} == {"kit"}
    assert kit.stderr == b""


def test_a_drain_lets_the_last_request_finish(tmp_path: Path) -> None:
    with Running(tmp_path, {}) as kit:
        url = kit.urls("proxy", "metrics")["proxy"]
        kit.read_until("started")
        held: list[int] = []
        holder = threading.Thread(target=lambda: held.append(get(url, "/hold")[0]))
        holder.start()
        while not get(url, "/busy")[1].startswith(b"2 "):
            time.sleep(0.01)
        kit.signal(signal.SIGHUP)
        kit.signal(signal.SIGINT)
        kit.read_until("draining", in_flight=1)
        assert get(url, "/livez") == (503, b"[+]ping ok\n[-]shutdown failed: reason withheld\nlivez check failed")
        assert get(url, "/readyz")[0] == 503
        kit.signal(signal.SIGTERM)
        kit.signal(signal.SIGINT)
        assert get(url, "/count")[0] == 200, "it still accepts, and later signals change nothing"
        assert get(url, "/release")[0] == 200
        holder.join(5)
        assert held == [200]
        assert kit.end() == 0


def test_a_crash_of_an_essential_task_ends_the_service(tmp_path: Path) -> None:
    with Running(tmp_path, {}) as kit:
        url = kit.urls("proxy", "metrics")["proxy"]
        assert get(url, "/crash")[0] == 200
        assert kit.end() == 1
    (crash,) = [line for line in kit.lines if line["message"] == "a background task crashed"]
    assert crash["task"] == "doomed"
    assert "LookupError: on purpose" in crash["exception"]


def test_an_address_in_use_ends_the_start_with_one_line(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with Running(tmp_path, {"proxy": {"addr": f"127.0.0.1:{port}"}}) as kit:
            assert kit.end() == 1
    assert kit.stderr.decode() == (
        f"Error: cannot listen on 127.0.0.1:{port} (proxy.addr): address already in use; "
        "stop the process that has it, or change proxy.addr\n"
    )
    assert kit.plain == ["stack closed"]


def test_a_metrics_listener_that_cannot_be_bound_is_fatal(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        addr = f"127.0.0.1:{taken.getsockname()[1]}"
        with Running(tmp_path, {"observability": {"metrics": {"prometheus": {"addr": addr}}}}) as kit:
            assert kit.end() == 1
    assert kit.stderr.decode().startswith(f"Error: cannot listen on {addr} (observability.metrics.prometheus.addr)")


def test_unreadable_tls_files_are_fatal(tmp_path: Path) -> None:
    tls = {"cert_file": str(tmp_path / "no.crt"), "key_file": str(tmp_path / "no.key")}
    with Running(tmp_path, {"proxy": {"tls": tls}}) as kit:
        assert kit.end() == 1
    assert kit.stderr.decode() == (
        f"Error: proxy.tls.cert_file: cannot read {tmp_path}/no.crt: No such file or directory\n"
    )


ONCE = """
from aisix_common.service import run_service
from aisix_common.service.command import service_command

async def build(stack, lifecycle, tasks):
    note(str([os.path.samestat(os.fstat(fd), os.stat(os.devnull)) for fd in range(3)]))
    lifecycle.stop()
    return []

def prepare(path, loaded):
    return lambda: run_service("once", loaded.settings, build, warnings=loaded.warnings)

sys.exit(service_command("once", "", prepare))
"""


def once(
    programs: Programs,
    config: str,
    redirect: str = "",
    arguments: Sequence[str] = ("--config", "config.yaml"),
    variables: Mapping[str, str] = MappingProxyType({}),
) -> "subprocess.CompletedProcess[bytes]":
    """A service that stops as soon as it has started, run beside its file by a shell that redirects its streams."""
    programs.write("once", ONCE)
    file = programs.folder / "config.yaml"
    file.write_text(
        f'proxy: {{addr: "127.0.0.1:0"}}\netcd: {{endpoints: [a]}}\nshutdown: {{min_drain_secs: 0}}\n{config}\n'
    )
    command = (sys.executable, "-m", "once", *arguments)
    shell = ["/bin/sh", "-c", f'exec "$@" {redirect}', "sh", *command]
    return subprocess.run(
        shell,
        cwd=programs.folder,
        env={**programs.environ, **variables},
        stdin=subprocess.PIPE,
        capture_output=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("variable", "arguments", "code"),
    [
        ("config.yaml", (), 0),
        ("missing.yaml", ("--config", "config.yaml"), 0),
        ("config.yaml", ("--config", "missing.yaml"), 1),
        ("", (), 2),
        (None, (), 2),
    ],
)
def test_the_configuration_may_be_named_by_the_environment(
    variable: str | None, arguments: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    programs = Programs(tmp_path)
    variables = {} if variable is None else {"AISIX_CONFIG": variable}
    run = once(programs, "admin: {enabled: false}", arguments=arguments, variables=variables)
    assert run.returncode == code, run.stderr
    assert len(programs.events()) == (code == 0)
    assert (b"required: --config" in run.stderr) == (code == 2)


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_stream_that_was_closed_before_the_start_is_nobodys_socket(closed: int, tmp_path: Path) -> None:
    programs = Programs(tmp_path)
    run = once(programs, "admin: {enabled: false}", f"{closed}>&-")
    assert (run.returncode, programs.events()) == (0, [str([fd == closed for fd in range(3)])]), run.stderr


@pytest.mark.parametrize(("log_level", "seen"), [("error", 1), ("info", 1), ("off", 0)])
def test_a_warning_of_security_is_seen_at_the_level_of_errors(log_level: str, seen: int, tmp_path: Path) -> None:
    run = once(Programs(tmp_path), f"admin: {{admin_keys: [admin]}}\nobservability: {{log_level: {log_level}}}")
    assert run.returncode == 0
    assert run.stdout.count(b'"level":"error","service":"once"') == run.stdout.count(b"SECURITY:") == seen


def test_a_signal_during_the_start_ends_it(tmp_path: Path) -> None:
    with Running(tmp_path, {}, {SLOW_START: "1"}) as kit:
        kit.read_until("building")
        begun = kit.signal(signal.SIGTERM)
        assert kit.end() == 0
        assert time.monotonic() - begun < 1.0
    assert kit.plain == ["building", "stack closed"]
