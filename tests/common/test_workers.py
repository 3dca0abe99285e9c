"""Several worker processes as one service: real processes, real signals."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_common.service import Listener, serve_pages
from aisix_common.settings import Address, ListenerTls
from aisix_common.workers import status
from aisix_common.workers.folder import LONGEST_PLACE, PREFIX, private_folder
from aisix_common.workers.place import VARIABLE, Place, take_place

from tests.common.test_service import get
from tests.support.kit_service import Running

WORKERS = 2


# Places


def test_a_place_travels_in_the_environment_and_is_taken_once() -> None:
    place = Place(2, {"proxy.addr": Address("127.0.0.1", 3000)}, "/tmp/aisix-x")
    environ = place.environment({"PATH": "/bin"})
    assert environ["PATH"] == "/bin"
    assert take_place(environ) == place
    assert take_place(environ) is None
    assert VARIABLE not in environ


def test_where_the_listeners_of_a_worker_go() -> None:
    def make() -> Any:
        return serve_pages({})

    def behind() -> Any:
        return serve_pages({})

    tls = ListenerTls(cert_file="a", key_file="b")
    place = Place(1, {"proxy.addr": Address("127.0.0.1", 4000)}, "/tmp/aisix-x")
    placed = place.listeners(
        [
            Listener("proxy", "proxy.addr", Address("127.0.0.1", 0), make, tls=tls, shared=True),
            Listener("metrics", "m.addr", Address("127.0.0.1", 9090), make, behind=behind),
            Listener("private", "p.addr", Address("127.0.0.1", 9999), make),
        ]
    )
    proxy, metrics = placed
    assert (proxy.address.port, proxy.reuse_port, proxy.tls, proxy.path) == (4000, True, tls, None)
    assert (metrics.make, metrics.path) == (behind, Path("/tmp/aisix-x/worker-1.sock"))


# Status pages

OK = (200, status.TEXT, b"ok")
NOT_YET = (503, status.TEXT, b"no configuration available")


def applied(revision: int, seq: int = 1) -> status.PageAnswer:
    body = {"state": "synced", "applied": {"applied_revision": revision, "apply_seq": seq}}
    return 200, status.JSON, json.dumps(body).encode()


def test_the_fleet_is_ready_when_every_worker_is() -> None:
    assert status.ready([OK, OK])[0] == 200
    assert status.ready([OK, NOT_YET]) == NOT_YET
    assert status.ready([None, OK]) == NOT_YET


def test_the_configuration_shown_is_that_of_the_worker_that_lags() -> None:
    assert status.config([applied(12), applied(9), applied(11)]) == applied(9)
    assert (
        status.config([applied(12), (200, status.JSON, b'{"state":"never_loaded"}')])[2] == b'{"state":"never_loaded"}'
    )
    assert json.loads(status.config([applied(12), None])[2])["state"] == "never_loaded"
    from_file = (200, status.JSON, b'{"source":{"type":"file"},"applied":{"apply_seq":3}}')
    assert json.loads(status.config([from_file, None])[2])["source"] == {"type": "file"}
    assert json.loads(status.config([None, None])[2])["source"] == {"type": "etcd", "connected": False}


def models(**states: str) -> status.PageAnswer:
    rows = [{"id": key, "status": value} for key, value in states.items()]
    return 200, status.JSON, json.dumps(rows, separators=(",", ":")).encode()


def test_a_model_is_as_well_as_the_worker_that_saw_it_worst() -> None:
    merged = status.models(
        [models(a="healthy", b="cooldown", c="not_applicable"), models(a="unhealthy", b="healthy", d="healthy"), None]
    )
    assert merged == models(a="unhealthy", b="cooldown", c="not_applicable", d="healthy")
    failed = (500, status.JSON, b"{}")
    assert status.models([failed, models(a="healthy")]) == models(a="healthy")
    assert status.models([failed, None]) == (500, status.JSON, b'{"error_msg":"failed to list models"}')


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_no_worker_lags_behind_the_one_that_is_shown(revisions: list[int]) -> None:
    assert status.config([applied(revision) for revision in revisions]) == applied(min(revisions))


# Their folder


def test_a_folder_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    with private_folder(tmp_path) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert len(os.fsencode(folder)) - len(os.fsencode(tmp_path)) + LONGEST_PLACE + len("/worker-511.sock") < 104
    assert list(tmp_path.iterdir()) == []


def test_what_nobody_owns_is_swept_up_and_nothing_else(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    stale = tmp_path / f"{PREFIX}stale"
    stale.mkdir()
    (stale / "lock").touch()
    (stale / "worker-0.sock").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    (tmp_path / f"{PREFIX}file").touch()
    with private_folder(tmp_path) as mine, private_folder(tmp_path) as other:
        kept = {elsewhere, tmp_path / f"{PREFIX}link", tmp_path / f"{PREFIX}file", mine, other}
        assert set(tmp_path.iterdir()) == kept
        assert list(elsewhere.iterdir()) == []


# Real processes


@contextmanager
def fleet(folder: Path, **config: Any) -> Iterator[Running]:
    with Running(folder, {"proxy": {"workers": WORKERS}, **config}) as kit:
        yield kit


def wait_for_all(kit: Running) -> tuple[str, str, list[int]]:
    """(URL of the shared port, URL of the metrics, pids by worker) once every worker listens and answers its parent."""
    proxy = metrics = ""
    ports = set()
    for _ in range(WORKERS * 2 + 1):
        line = kit.read_until("listening")
        if line["listener"] == "proxy":
            proxy = line["url"]
            ports.add(proxy)
        elif "worker" not in line:
            metrics = line["url"]
    assert len(ports) == 1, "all on one port"
    until(lambda: get(metrics, "/status/ready")[0] == 200)
    return proxy, metrics, pids(proxy)


def pids(url: str) -> list[int]:
    """The processes that answer on a shared port: the kernel spreads connections, so ask until all were met."""
    met: set[int] = set()
    until(lambda: len(met.add(int(get(url, "/count")[1])) or met) == WORKERS)  # type: ignore[func-returns-value]
    return sorted(met)


def pid_of_busy(url: str) -> int:
    """The worker that has a request in flight besides the one that asks."""
    deadline = time.monotonic() + 15
    while True:
        busy, pid = get(url, "/busy")[1].split()
        if busy == b"2":
            return int(pid)
        assert time.monotonic() < deadline, "nobody is busy"
        time.sleep(0.02)


def until(condition: Any, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


def counted(metrics_url: str) -> float:
    page = get(metrics_url, "/metrics")[1].decode()
    (line,) = [line for line in page.splitlines() if line.startswith("kit_counted_total ")]
    return float(line.split()[1])


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_workers_share_a_port_and_their_metrics_are_one(tmp_path: Path) -> None:
    with fleet(tmp_path) as kit:
        proxy, metrics, workers = wait_for_all(kit)
        assert kit.process.pid not in workers
        before = counted(metrics)
        for _ in range(20):
            get(proxy, "/count")
        assert counted(metrics) == before + 20, "whoever answered, it is counted once"
        page = get(metrics, "/metrics")[1].decode()
        assert page.count("\nprocess_cpu_seconds_total ") == 1
        config = json.loads(get(metrics, "/status/config")[1])
        assert config["applied"]["applied_revision"] == 100 - (WORKERS - 1), "the worker that lags most"
        assert get(metrics, "/families")[0] == 404
        # A worker that does not answer for a while: the page comes all the same, and nothing runs backwards.
        os.kill(workers[0], signal.SIGSTOP)
        try:
            known = counted(metrics)
            begun = time.monotonic()
            assert counted(metrics) == known == before + 20
            assert time.monotonic() - begun < 4
        finally:
            os.kill(workers[0], signal.SIGCONT)
        begun = kit.signal(signal.SIGTERM)
        assert kit.end() == 0
        assert time.monotonic() - begun < 2
    assert all(map(gone, workers))
    assert kit.plain.count("stack closed") == WORKERS
    assert {line.get("worker") for line in kit.lines} == {None, *range(WORKERS)}
    assert [line["message"] for line in kit.lines].count("a warning") == 1


def test_a_worker_that_dies_takes_the_service_down_in_order(tmp_path: Path) -> None:
    with fleet(tmp_path) as kit:
        proxy, _, workers = wait_for_all(kit)
        held: list[int] = []
        holder = threading.Thread(target=lambda: held.append(int(get(proxy, "/hold")[1])))
        holder.start()
        holding = pid_of_busy(proxy)
        os.kill(next(pid for pid in workers if pid != holding), signal.SIGKILL)
        kit.read_until("a worker ended by itself: stopping the others", exit_code=137)

        def released() -> bool:
            try:
                get(proxy, "/release")
            except OSError:
                pass  # nobody listens any more
            return kit.process.poll() is not None

        until(released)
        assert kit.end() == 137
        holder.join(5)
    assert held == [holding], "the others finish what they have"
    assert all(map(gone, workers))


def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    with fleet(tmp_path) as kit:
        _, _, workers = wait_for_all(kit)
        (folder,) = {Path(line["url"].removeprefix("unix:")).parent for line in kit.lines if "unix:" in str(line)}
        kit.signal(signal.SIGKILL)
        until(lambda: all(map(gone, workers)), 5)
    assert folder.exists()
    with private_folder():
        assert not folder.exists(), "the next one sweeps it up"


def test_a_drain_of_workers_waits_for_their_requests(tmp_path: Path) -> None:
    with fleet(tmp_path) as kit:
        proxy, metrics, _ = wait_for_all(kit)
        held: list[int] = []
        holder = threading.Thread(target=lambda: held.append(get(proxy, "/hold")[0]))
        holder.start()
        pid_of_busy(proxy)
        kit.signal(signal.SIGINT)
        kit.read_until("draining", in_flight=1, of="requests")
        assert get(metrics, "/metrics")[0] == 200, "numbers are shown to the end"
        # The idle workers are gone soon, so the only one left on the port is the one that holds the request.
        until(lambda: get(proxy, "/release")[0] == 200 and not holder.is_alive())
        assert kit.end() == 0
    assert held == [200]


@pytest.mark.slow
def test_a_second_gateway_on_the_same_address_is_refused(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with fleet(tmp_path) as kit:
        proxy, _, _ = wait_for_all(kit)
        addr = proxy.removeprefix("http://")
        with fleet(tmp_path / "second", proxy={"workers": WORKERS, "addr": addr}) as second:
            assert second.end() == 1
            assert second.stderr.decode().startswith(f"Error: cannot listen on {addr} (proxy.addr): address already")
        kit.signal(signal.SIGTERM)
        assert kit.end() == 0


def test_workers_that_cannot_start_end_the_service(tmp_path: Path) -> None:
    tls = {"cert_file": str(tmp_path / "no.crt"), "key_file": str(tmp_path / "no.key")}
    with fleet(tmp_path, proxy={"workers": 2, "tls": tls}) as kit:
        assert kit.end() == 1
    assert "Error: proxy.tls.cert_file: cannot read" in kit.stderr.decode()


def test_a_metrics_listener_that_cannot_be_bound_leaves_no_worker_behind(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        addr = f"127.0.0.1:{taken.getsockname()[1]}"
        with fleet(tmp_path, observability={"log_format": "json", "metrics": {"prometheus": {"addr": addr}}}) as kit:
            assert kit.end() == 1
    assert "(observability.metrics.prometheus.addr): address already in use" in kit.stderr.decode()


def test_the_sockets_are_private_and_a_stop_during_the_start_is_clean(tmp_path: Path) -> None:
    with fleet(tmp_path) as kit:
        line: dict[str, Any] = {}
        while not line.get("url", "").startswith("unix:"):
            line = kit.read_until("listening")
        folder = Path(line["url"].removeprefix("unix:")).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        kit.signal(signal.SIGTERM)
        assert kit.end() == 0
        assert not folder.exists()
