"""Makes the Secrets that an installation needs and that are not there: the admin key, the keyring, etcd's passwords and
certificates. What is there is never changed, but for certificates that are about to expire and may be issued anew.

The Secrets belong to nobody's release: an installation that is removed and made again over its data finds its keyring.
Each is made in one request with all that it holds, so that none is ever half made, and two jobs do not mix.
"""

import base64
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final, Protocol

from aisix_common.secrets.envelope import new_key

from .certificates import Pair, covers, days_left, issue, make_authority
from .progress import Failed
from .roles import SERVICES

_OPAQUE: Final = "Opaque"
_TLS: Final = "kubernetes.io/tls"
_ATTEMPTS: Final = 5


class Store(Protocol):
    """Where Secrets are. Every call raises Failed."""

    def get(self, name: str) -> dict[str, Any] | None:
        """The Secret as it is, or None."""

    def create(self, document: dict[str, Any]) -> bool:
        """Make it; False: there is one of this name already."""

    def replace(self, document: dict[str, Any]) -> bool:
        """Write it over the one with its resourceVersion; False: that is not the newest any more."""


@dataclass(frozen=True, slots=True)
class EtcdTls:
    """etcd's certificates: names of Secrets, and what they are for."""

    authority: str
    """Secret with the private authority; no pod mounts it."""
    server: str
    """Secret of the members, for callers and for each other."""
    hosts: tuple[str, ...]
    """What the members' certificate holds for."""
    clients: Mapping[str, str] = field(default_factory=dict)
    """Secret of each component that calls etcd."""
    renew_before: float = 0.0
    """Days before its end that a certificate is issued anew; 0: never."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What there should be; None where somebody else sees to it."""

    labels: Mapping[str, str] = field(default_factory=dict)
    admin: tuple[str, str] | None = None
    """Secret of the admin key, and its key in there."""
    keyring: tuple[str, tuple[str, ...]] | None = None
    """Secret of the keyring, and the ids in there."""
    etcd_auth: str | None = None
    """Secret of the passwords of etcd's users."""
    etcd_tls: EtcdTls | None = None


def ensure(wanted: Wanted, store: Store, now: datetime, say: Callable[[str], None]) -> None:
    """Make what is missing of `wanted`. Raises Failed; what was made until then stays, and is found the next time."""
    making = _Making(store, wanted.labels, say)
    if wanted.admin is not None:
        name, key = wanted.admin
        making.once(name, (key,), lambda: {key: f"admin-{secrets.token_urlsafe(32)}".encode()})
    if wanted.keyring is not None:
        name, ids = wanted.keyring
        making.once(name, ids, lambda: {each: new_key().encode() for each in ids})
    if wanted.etcd_auth is not None:
        credentials = _credentials()
        making.once(wanted.etcd_auth, tuple(credentials), lambda: credentials)
    if wanted.etcd_tls is not None:
        _ensure_tls(wanted.etcd_tls, making, now)


def _credentials() -> dict[str, bytes]:
    """`<user>-password` of everybody."""
    return {f"{user}-password": secrets.token_urlsafe(32).encode() for user in ("root", *SERVICES)}


class _Making:
    """Makes one Secret at a time, and tells of it."""

    def __init__(self, store: Store, labels: Mapping[str, str], say: Callable[[str], None]) -> None:
        self.store = store
        self.say = say
        self._labels = dict(labels)

    def once(
        self, name: str, keys: Sequence[str], make: Callable[[], Mapping[str, bytes]], kind: str = _OPAQUE
    ) -> None:
        """The Secret with `keys`: as it is, or made. Raises Failed when it is there without one of them."""
        for _ in range(_ATTEMPTS):
            found = self.store.get(name)
            if found is not None:
                missing = [key for key in keys if not (found.get("data") or {}).get(key)]
                if missing:
                    raise Failed(
                        f"the Secret {name} is there, but has no {', '.join(missing)}. It is not changed here: add "
                        "what is missing (kubectl edit), or, if nothing was stored with it yet, delete it and try again"
                    )
                self.say(f"Secret {name}: kept")
                return
            if self.store.create(self.document(name, make(), kind)):
                self.say(f"Secret {name}: made, with {', '.join(keys)}")
                return
        raise Failed(f"the Secret {name} comes and goes: somebody else makes and deletes it")

    def document(self, name: str, data: Mapping[str, bytes], kind: str) -> dict[str, Any]:
        """The Secret as the API takes it."""
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": self._labels},
            "type": kind,
            "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
        }


def _ensure_tls(tls: EtcdTls, making: _Making, now: datetime) -> None:
    leaves: dict[str, tuple[str, tuple[str, ...]]] = {tls.server: ("aisix-etcd-member", tls.hosts)}
    for component, secret in tls.clients.items():
        leaves[secret] = (component, ())
    found = {name: making.store.get(name) for name in leaves}
    if making.store.get(tls.authority) is None and any(found.values()):
        raise Failed(
            f"the Secret {tls.authority} with etcd's authority is gone, but certificates of it are there: put it back, "
            f"or delete {', '.join(name for name, secret in found.items() if secret)} and restart etcd and the services"
        )
    making.once(tls.authority, ("tls.crt", "tls.key"), lambda: _data(make_authority("AISIX etcd", now)), _TLS)
    authority = _pair(making.store.get(tls.authority), tls.authority)

    def leaf(name: str) -> Mapping[str, bytes]:
        return {**_data(issue(authority, *leaves[name], now)), "ca.crt": authority.certificate}

    for name, (_, hosts) in leaves.items():
        there = found[name]
        if there is None:
            making.once(name, ("tls.crt", "tls.key", "ca.crt"), partial(leaf, name), _TLS)
        elif tls.renew_before and (reason := _outdated(there, name, hosts, tls.renew_before, now)):
            _renew(making, there, leaf(name), f"Secret {name}: issued anew, {reason}")
        else:
            making.say(f"Secret {name}: kept")


def _renew(making: _Making, secret: Mapping[str, Any], data: Mapping[str, bytes], said: str) -> None:
    name = secret["metadata"]["name"]
    new = {key: base64.b64encode(value).decode() for key, value in data.items()}
    if making.store.replace({**secret, "data": {**secret["data"], **new}}):
        making.say(said)
    else:
        making.say(f"Secret {name}: somebody else changed it at the same time, kept as it is now")


def _outdated(secret: Mapping[str, Any], name: str, hosts: Sequence[str], days: float, now: datetime) -> str:
    """Why the certificate has to be issued anew; "" if it has not."""
    certificate = _pair(secret, name).certificate
    try:
        left = days_left(certificate, now)
        if left < days:
            return f"as the old one is good for {max(left, 0):.0f} more days"
        return "" if covers(certificate, hosts) else "as the old one does not hold for every name"
    except ValueError:
        raise Failed(f"the Secret {name} holds no certificate: delete it, and run this again")


def _pair(secret: Mapping[str, Any] | None, name: str) -> Pair:
    data = (secret or {}).get("data") or {}
    try:
        return Pair(base64.b64decode(data["tls.crt"]), base64.b64decode(data["tls.key"]))
    except (KeyError, ValueError):
        raise Failed(f"the Secret {name} has no tls.crt with its tls.key")


def _data(pair: Pair) -> dict[str, bytes]:
    return {"tls.crt": pair.certificate, "tls.key": pair.key}
