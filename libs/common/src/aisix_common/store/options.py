"""What an etcd client needs to know, as one value; and how it is made from `settings.etcd` and the environment.

Knows files and names of environment variables, no network. Rules: `docs/decisions/0001-etcd-client.md`.
"""

import ipaddress
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from aisix_common.errors import ConfigurationError, Problem
from aisix_common.secret import Secret
from aisix_common.settings.storage import Etcd, EtcdTls

DEFAULT_PORT: Final = 2379


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsMaterial:
    """PEM bytes for the link to etcd. Without `certificate` and `key` there is no client certificate."""

    ca: bytes | None = None
    """Trusted authorities; None: those that gRPC ships."""
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    domain_name: str | None = None
    """The name etcd's certificate must carry; None: the host of the first endpoint."""
    again: "Callable[[], TlsMaterial] | None" = field(default=None, repr=False, compare=False)
    """The same as its files hold it now, or as it was where they cannot be used; None: it is of no files. Blocking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdOptions:
    """How to reach etcd. All times are seconds."""

    endpoints: tuple[str, ...]
    """`host:port`, `http://host:port` or `https://host:port`, one per member; any of them may be dead."""
    tls: TlsMaterial | None = None
    user: str | None = None
    password: Secret | None = None
    dial_timeout: float = 5.0
    """Limit of one connection attempt, TLS included."""
    request_timeout: float = 5.0
    """Limit of one call, its retry included."""
    ping_interval: float = 10.0
    """An idle connection is pinged that often. etcd drops clients that ping more than every 5 s."""
    ping_timeout: float = 5.0
    """An unanswered ping ends the connection after this time."""


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint, as gRPC wants it (`uri`) and as people write it (`name`)."""

    name: str
    uri: str
    host: str
    secure: bool


def etcd_options(settings: Etcd, environ: Mapping[str, str]) -> EtcdOptions:
    """Options from the `etcd` section: reads the TLS files and the password variable, and checks the endpoints.

    Raises ConfigurationError with everything that is wrong. User and password count only together, as documented.
    """
    problems: list[Problem] = []
    password = None
    if settings.user and settings.password_env:
        password = _password(settings.password_env, environ, problems)
    tls = _followed(_tls(settings.tls, problems), settings.tls) if settings.tls is not None else None
    options = EtcdOptions(
        endpoints=tuple(settings.endpoints),
        tls=tls,
        user=settings.user if password is not None else None,
        password=password,
        dial_timeout=settings.dial_timeout_ms / 1000,
        request_timeout=settings.request_timeout_ms / 1000,
    )
    _parse(options, problems)
    if problems:
        raise ConfigurationError(problems)
    return options


def targets(options: EtcdOptions) -> tuple[Target, ...]:
    """The endpoints of `options`, parsed. Raises ConfigurationError: none, not an address, or plain and TLS mixed."""
    problems: list[Problem] = []
    parsed = _parse(options, problems)
    if problems:
        raise ConfigurationError(problems)
    return parsed


def _parse(options: EtcdOptions, problems: list[Problem]) -> tuple[Target, ...]:
    if not options.endpoints:
        problems.append(Problem("etcd.endpoints", "at least one endpoint is needed"))
    parsed = []
    for index, endpoint in enumerate(options.endpoints):
        try:
            parsed.append(_target(endpoint, secure=options.tls is not None))
        except ValueError as error:
            problems.append(Problem(f"etcd.endpoints[{index}]", str(error)))
    if len({target.secure for target in parsed}) > 1:
        problems.append(Problem("etcd.endpoints", "http:// and https:// endpoints cannot be mixed"))
    return tuple(parsed)


def _target(endpoint: str, *, secure: bool) -> Target:
    scheme, separator, rest = endpoint.partition("://")
    if not separator:
        scheme, rest = ("https" if secure else "http"), endpoint
    if scheme not in ("http", "https"):
        raise ValueError("the scheme must be http or https")
    if scheme == "http" and secure:
        raise ValueError("http:// contradicts etcd.tls: write https://, or remove the tls section")
    problem = "must be host:port, with IPv6 hosts in brackets, and without user, path or query"
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(problem) from None
    if not host or parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(problem)
    uri, shown = _uri(host, DEFAULT_PORT if port is None else port)
    return Target(shown, uri, host, scheme == "https")


def _uri(host: str, port: int) -> tuple[str, str]:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"dns:///{host}:{port}", f"{host}:{port}"
    if address.version == 4:
        return f"ipv4:{host}:{port}", f"{host}:{port}"
    return f"ipv6:[{host}]:{port}", f"[{host}]:{port}"


def _password(name: str, environ: Mapping[str, str], problems: list[Problem]) -> Secret | None:
    text = environ.get(name)
    if text is None:
        problems.append(
            Problem("etcd.password_env", f"the environment variable {name} is not set: set it, or unset user")
        )
        return None
    return Secret(text)


def _tls(settings: EtcdTls, problems: list[Problem]) -> TlsMaterial:
    def read(name: str, path: str) -> bytes | None:
        try:
            return Path(path).read_bytes()
        except OSError as error:
            problems.append(Problem(f"etcd.tls.{name}", f"cannot read {path}: {error.strerror or 'not readable'}"))
            return None

    material = TlsMaterial(
        ca=read("ca_cert_file", settings.ca_cert_file),
        certificate=read("client_cert_file", settings.client_cert_file),
        key=read("client_key_file", settings.client_key_file),
        domain_name=settings.domain_name or None,
    )
    problems += _unusable(settings, material)
    return material


def _followed(material: TlsMaterial, settings: EtcdTls) -> TlsMaterial:
    """`material`, with the way to its files."""

    def again() -> TlsMaterial:
        problems: list[Problem] = []
        fresh = _tls(settings, problems)
        return material if problems or fresh == material else _followed(fresh, settings)

    return replace(material, again=again)


def _unusable(settings: EtcdTls, read: TlsMaterial) -> Iterator[Problem]:
    """What is wrong inside the files that could be read: gRPC says nothing of it, every call would merely fail."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if read.ca is not None:
        try:
            context.load_verify_locations(cafile=settings.ca_cert_file)
        except (ssl.SSLError, OSError, ValueError):
            yield Problem("etcd.tls.ca_cert_file", f"{settings.ca_cert_file} must hold PEM certificates of authorities")
    if read.certificate is not None and read.key is not None:
        try:
            # A password callback keeps OpenSSL from asking on the terminal for a key that has one.
            context.load_cert_chain(settings.client_cert_file, settings.client_key_file, password=lambda: b"")
        except (ssl.SSLError, OSError, ValueError):
            rule = "must be a PEM certificate and its private key, unencrypted"
            yield Problem(
                "etcd.tls.client_cert_file", f"{settings.client_cert_file} and {settings.client_key_file} {rule}"
            )
