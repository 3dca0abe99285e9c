"""A listener as a value, and how it becomes an open socket: bound early and clearly refused, TLS from files."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from ..errors import AisixError, ConfigurationError, Problem
from ..metrics import Metrics
from ..settings import Address, ListenerTls
from ..settings.files import why_unreadable

BACKLOG: Final = 4096
"""Connections the kernel keeps for us while the loop is busy."""
TLS_HANDSHAKE_SECONDS: Final = 10.0


class CannotListen(AisixError):
    """An address cannot be listened on; the text is for the operator and names the setting."""


class Connections(Protocol):
    """What makes and closes the connections of a listener; `aiohttp.web.Server` and `AppRunner.server` are such."""

    def __call__(self) -> asyncio.BaseProtocol:
        """A protocol for one accepted connection."""
        ...

    @property
    def connections(self) -> Sequence[object]:
        """The connections that are open."""
        ...

    def pre_shutdown(self) -> None:
        """Close idle connections now, and every other one after the answer it is working on."""
        ...

    async def shutdown(self, timeout: float | None = None) -> None:
        """Give answers under way `timeout` seconds, then close everything."""
        ...


@dataclass(frozen=True, slots=True)
class Listener:
    """One address that is listened on."""

    name: str
    """What it is called in logs: `proxy`, `admin`, `metrics`."""
    setting: str
    """The setting its address came from, for messages: `proxy.addr`."""
    address: Address
    make: Callable[[], Connections]
    """Makes what serves its connections; called once, in the loop, after the address was bound."""
    tls: ListenerTls | None = None
    """Serve TLS with these files; errors name `<name>.tls`."""
    shared: bool = False
    """Worker processes listen on the address together (SO_REUSEPORT); every worker serves it the same."""
    behind: Callable[[], Connections] | None = None
    """What a worker process serves on its private socket instead, for its parent to aggregate. Without it a listener
    that is not `shared` is not opened in workers."""
    metrics: Metrics | None = None
    """What it shows, if anything; the frame adds its own numbers to these."""
    reuse_port: bool = False
    """Other sockets of ours are bound to the address already: set in worker processes only."""
    path: Path | None = None
    """A unix socket that is listened on instead of `address`: set in worker processes only."""


@dataclass(frozen=True, slots=True)
class OpenListener:
    """A listener that accepts connections, until it is closed."""

    listener: Listener
    connections: Connections
    server: asyncio.AbstractServer
    url: str
    """Where it can be reached, with the port the system chose."""

    def stop_accepting(self) -> None:
        """Refuse new connections and close idle ones; answers under way go on."""
        self.server.close()
        self.connections.pre_shutdown()

    async def close(self, timeout: float) -> None:
        """Give answers under way `timeout` seconds, then close every connection."""
        self.stop_accepting()
        await self.connections.shutdown(timeout)


async def open_listener(listener: Listener) -> OpenListener:
    """Bind, load TLS files, and accept. Raises CannotListen, or ConfigurationError for the TLS files."""
    context = tls_context(listener.tls, f"{listener.name}.tls") if listener.tls is not None else None
    bound = (
        _bind_unix(listener.path)
        if listener.path is not None
        else bind(listener.address, listener.setting, reuse_port=listener.reuse_port)
    )
    try:
        connections = listener.make()
        loop = asyncio.get_running_loop()
        handshake = TLS_HANDSHAKE_SECONDS if context is not None else None
        if listener.path is not None:
            server = await loop.create_unix_server(connections, sock=bound, backlog=BACKLOG)
        else:
            server = await loop.create_server(
                connections, sock=bound, backlog=BACKLOG, ssl=context, ssl_handshake_timeout=handshake
            )
    except BaseException:
        bound.close()
        raise
    return OpenListener(listener, connections, server, _url(listener, server))


def _url(listener: Listener, server: asyncio.Server) -> str:
    if listener.path is not None:
        return f"unix:{listener.path}"
    port = server.sockets[0].getsockname()[1]
    return f"{'https' if listener.tls is not None else 'http'}://{Address(listener.address.host, port)}"


def bind(address: Address, setting: str, *, reuse_port: bool = False) -> socket.socket:
    """A socket bound to `address`, listening unless it shares the port. Raises CannotListen with what to do about it.

    `setting` is where the address came from.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Accepted sockets inherit this: small chunks of a stream go out at once.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound.setblocking(False)
        bound.bind((address.host, address.port))
        if not reuse_port:
            bound.listen(BACKLOG)  # with SO_REUSEADDR on both sides an address in use shows only now
    except OSError as error:
        bound.close()
        raise CannotListen(f"cannot listen on {address} ({setting}): {_advice(error, setting)}") from None
    return bound


def reserve(address: Address, setting: str) -> tuple[Address, socket.socket]:
    """Hold `address` for several processes: (the address with its final port, the socket to keep open).

    The socket does not listen, so it gets no connections; as long as it is open, port 0 stays the port it became.
    Raises CannotListen, also when a process that would let us share its port listens there already.
    """
    probe = bind(address, setting)
    final = Address(address.host, probe.getsockname()[1])
    # A socket that shares cannot join one that does not: the address is free for a moment between the two.
    probe.close()
    return final, bind(final, setting, reuse_port=True)


def _bind_unix(path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.setblocking(False)
        bound.bind(str(path))
    except OSError:
        bound.close()
        raise
    return bound


def _advice(error: OSError, setting: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"address already in use; stop the process that has it, or change {setting}"
    if error.errno == errno.EACCES:
        return f"permission denied; ports below 1024 need CAP_NET_BIND_SERVICE, or change {setting}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"no such address on this machine; change {setting}"
    return os.strerror(error.errno) if error.errno else "the system refused"


def tls_context(files: ListenerTls, label: str) -> ssl.SSLContext:
    """A server context of certificate and key files: TLS 1.2 or later, HTTP/1.1 by ALPN.

    Raises ConfigurationError that names `label` and the file, never what is in it.
    """
    for key, path in (("cert_file", files.cert_file), ("key_file", files.key_file)):
        reason = why_unreadable(path)
        if reason is not None:
            raise ConfigurationError([Problem(f"{label}.{key}", f"cannot read {path}: {reason}")])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # A password callback keeps OpenSSL from asking on the terminal for a key that has one.
        context.load_cert_chain(files.cert_file, files.key_file, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError):
        rule = (
            f"{files.cert_file} and {files.key_file} must be a PEM certificate chain and its private key, unencrypted"
        )
        raise ConfigurationError([Problem(label, rule)]) from None
    return context
