"""The Cloud's etcd: TLS, a client certificate for everybody, its CN as the user, one role for each environment.

An environment's user may read `/aisix/<env_id>/` and `/ext/aisix/<env_id>/`, and nothing else. The process ends with
ours, whatever ends that (`tether.py`).
"""

import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from aisix_common.store.options import TlsMaterial

from tests.support.etcd import Certificates, EtcdServer

ROOT: Final = "root"
START_TRIES: Final = 5
PAUSE_SECONDS: Final = 0.2
_AUTH: Final = "/etcdserverpb.Auth/"
_CALL_SECONDS: Final = 10.0


class TenantEtcd(EtcdServer):
    """One etcd process; `certificates.client_cert` is root's. Data that is there already is kept."""

    def __init__(self, folder: Path, certificates: Certificates, revoked: Path) -> None:
        """`revoked`: the file of the revocation list; etcd reads it anew for every connection."""
        more = ("--client-crl-file", str(revoked), "--enable-grpc-gateway=false", "--auth-token-ttl", "3600")
        super().__init__(folder, certificates=certificates, client_auth=True, arguments=more)
        self._used = (folder / "data").exists()
        self._folder = folder
        self._lifeline = -1
        self._starts = 0
        self._known = False

    def start(self) -> None:
        """As before, but a port that somebody else has for the moment is waited for, or replaced while nobody knows
        ours; the data are never the price of that."""
        for left in reversed(range(START_TRIES)):
            try:
                super().start()
                self._known = True
                return
            except RuntimeError as error:
                if not left or "address already in use" not in str(error):
                    raise
                if not self._known:
                    self._pick_ports()
                time.sleep(PAUSE_SECONDS)
            finally:
                for fifo in self._folder.glob("tether-*"):
                    fifo.unlink()

    def _command(self) -> list[str]:
        self._starts += 1
        fifo = self._folder / f"tether-{os.getpid()}-{self._starts}"
        os.mkfifo(fifo, 0o600)
        self._let_go()
        self._lifeline = os.open(fifo, os.O_RDWR)  # not O_WRONLY: that needs a reader first
        return [sys.executable, "-I", "-S", str(Path(__file__).with_name("tether.py")), str(fifo), *super()._command()]

    def _end(self, how: signal.Signals) -> None:
        super()._end(how)
        self._let_go()

    def _let_go(self) -> None:
        lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            os.close(lifeline)


def roots(env_id: str) -> tuple[str, str]:
    """The two prefixes of an environment."""
    return f"/aisix/{env_id}/", f"/ext/aisix/{env_id}/"


async def admit(endpoint: str, root: TlsMaterial, environments: Iterable[str]) -> None:
    """Make users and roles for these environments and turn authentication on. Asking again changes nothing."""
    credentials = grpc.ssl_channel_credentials(root.ca, root.key, root.certificate)
    options = [("grpc.enable_http_proxy", 0)]
    async with grpc.aio.secure_channel(endpoint.removeprefix("https://"), credentials, options=options) as channel:

        async def call(method: str, message: bytes) -> None:
            try:
                await channel.unary_unary(_AUTH + method, bytes, bytes)(
                    message, timeout=_CALL_SECONDS, wait_for_ready=True
                )
            except grpc.aio.AioRpcError as error:
                if "already exists" not in (error.details() or ""):
                    raise

        await call("UserAdd", _user(ROOT))
        await call("UserGrantRole", _text(1, ROOT) + _text(2, ROOT))
        for env_id in environments:
            await call("RoleAdd", _text(1, env_id))
            for prefix in roots(env_id):
                await call("RoleGrantPermission", _text(1, env_id) + _field(2, _may_read(prefix)))
            await call("UserAdd", _user(env_id))
            await call("UserGrantRole", _text(1, env_id) + _text(2, env_id))
        await call("AuthEnable", b"")


# etcd's messages for this, by hand: they are not among those that our client needs, and need no more than texts.


def _user(name: str) -> bytes:
    return _text(1, name) + _field(3, b"\x08\x01")  # options.no_password


def _may_read(prefix: str) -> bytes:
    return _text(2, prefix) + _text(3, prefix[:-1] + chr(ord(prefix[-1]) + 1))  # permission type 0: READ


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, value: bytes) -> bytes:
    assert len(value) < 128 * 128
    size = bytes([len(value)]) if len(value) < 128 else bytes([len(value) & 127 | 128, len(value) >> 7])
    return bytes([number << 3 | 2]) + size + value
