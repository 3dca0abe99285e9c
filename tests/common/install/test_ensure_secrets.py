"""What is missing is made, what is there stays: on Secrets that are kept in memory, as Kubernetes keeps them."""

import base64
import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aisix_common.install.certificates import days_left
from aisix_common.install.ensure_secrets import EtcdTls, Wanted, ensure
from aisix_common.install.progress import Failed
from aisix_common.secrets.envelope import decode_key

NOW = datetime.now(UTC)
TLS = EtcdTls("x-etcd-ca", "x-etcd-tls", ("x-etcd",), {"proxy": "x-etcd-client-proxy", "hook": "x-etcd-client-hook"})
ALL = Wanted(
    labels={"app.kubernetes.io/part-of": "aisix"},
    admin=("x-admin", "admin-key"),
    keyring=("x-keyring", ("k1",)),
    etcd_auth="x-etcd-auth",
    etcd_tls=TLS,
)


class Kept:
    """Secrets by name; each write is a new version."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, Any]] = {}
        self.before_create: Callable[[str], None] = lambda name: None
        self._version = 0

    def get(self, name: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.secrets.get(name))

    def create(self, document: dict[str, Any]) -> bool:
        name = document["metadata"]["name"]
        self.before_create(name)
        if name in self.secrets:
            return False
        self._store(name, document)
        return True

    def replace(self, document: dict[str, Any]) -> bool:
        name = document["metadata"]["name"]
        if self.secrets[name]["metadata"]["resourceVersion"] != document["metadata"]["resourceVersion"]:
            return False
        self._store(name, document)
        return True

    def data(self, name: str) -> dict[str, bytes]:
        return {key: base64.b64decode(value) for key, value in self.secrets[name]["data"].items()}

    def _store(self, name: str, document: dict[str, Any]) -> None:
        self._version += 1
        stored = copy.deepcopy(document)
        stored["metadata"]["resourceVersion"] = str(self._version)
        self.secrets[name] = stored


def test_makes_all_that_is_wanted() -> None:
    kept, said = Kept(), list[str]()
    ensure(ALL, kept, NOW, said.append)
    assert set(kept.secrets) == {
        "x-admin",
        "x-keyring",
        "x-etcd-auth",
        "x-etcd-ca",
        "x-etcd-tls",
        "x-etcd-client-proxy",
        "x-etcd-client-hook",
    }
    assert kept.data("x-admin")["admin-key"].startswith(b"admin-") and len(kept.data("x-admin")["admin-key"]) > 40
    assert len(decode_key(kept.data("x-keyring")["k1"].decode())) == 32
    auth = kept.data("x-etcd-auth")
    assert set(auth) == {"root-password", "proxy-password", "admin-password", "cloud-agent-password"}
    assert len(set(auth.values())) == 4 and all(len(each) > 40 for each in auth.values())
    assert set(kept.data("x-etcd-tls")) == {"tls.crt", "tls.key", "ca.crt"}
    assert kept.data("x-etcd-client-hook")["ca.crt"] == kept.data("x-etcd-ca")["tls.crt"]
    assert all(one["metadata"]["labels"] == dict(ALL.labels) for one in kept.secrets.values())
    output = "\n".join(said)
    for name in kept.secrets:
        for key, value in kept.data(name).items():
            assert value.decode() not in output, key


def test_a_second_run_changes_nothing() -> None:
    kept = Kept()
    ensure(ALL, kept, NOW, lambda line: None)
    before, said = copy.deepcopy(kept.secrets), list[str]()
    ensure(ALL, kept, NOW + timedelta(days=1000), said.append)
    assert kept.secrets == before
    assert all(line.endswith(": kept") for line in said)


def test_only_what_is_wanted_is_looked_at() -> None:
    kept = Kept()
    ensure(Wanted(keyring=("x-keyring", ("k2", "k1"))), kept, NOW, lambda line: None)
    assert set(kept.secrets) == {"x-keyring"} and set(kept.data("x-keyring")) == {"k1", "k2"}


def test_what_another_makes_at_the_same_time_is_kept() -> None:
    kept = Kept()

    def faster(name: str) -> None:
        kept.before_create = lambda name: None
        kept.create({"metadata": {"name": name}, "data": {"k1": "dGhlaXJz"}})

    kept.before_create = faster
    ensure(Wanted(keyring=("x-keyring", ("k1",))), kept, NOW, lambda line: None)
    assert kept.data("x-keyring") == {"k1": b"theirs"}


def test_a_secret_without_a_key_is_no_reason_to_touch_it() -> None:
    kept = Kept()
    kept.create({"metadata": {"name": "x-keyring"}, "data": {"k1": "dGhlaXJz"}})
    with pytest.raises(Failed, match=r"x-keyring is there, but has no k2\. It is not changed"):
        ensure(Wanted(keyring=("x-keyring", ("k2", "k1"))), kept, NOW, lambda line: None)
    assert kept.data("x-keyring") == {"k1": b"theirs"}


def test_certificates_that_are_about_to_expire_are_issued_anew_and_nothing_else() -> None:
    kept, renewing = Kept(), Wanted(etcd_tls=EtcdTls(TLS.authority, TLS.server, TLS.hosts, TLS.clients, 365))
    ensure(renewing, kept, NOW, lambda line: None)
    before = copy.deepcopy(kept.secrets)
    ensure(renewing, kept, NOW + timedelta(days=1000), lambda line: None)
    assert kept.secrets == before, "it is early yet"
    later, said = NOW + timedelta(days=1600), list[str]()
    ensure(renewing, kept, later, said.append)
    assert kept.secrets["x-etcd-ca"] == before["x-etcd-ca"]
    for name in (TLS.server, *TLS.clients.values()):
        assert days_left(kept.data(name)["tls.crt"], later) > 1800
        assert kept.data(name)["tls.key"] != base64.b64decode(before[name]["data"]["tls.key"])
    assert len([line for line in said if "issued anew" in line]) == 3


def test_a_server_certificate_that_lacks_a_name_is_issued_anew() -> None:
    kept = Kept()
    ensure(Wanted(etcd_tls=TLS), kept, NOW, lambda line: None)
    more = EtcdTls(TLS.authority, TLS.server, (*TLS.hosts, "x-etcd-1"), TLS.clients, 365)
    said = list[str]()
    ensure(Wanted(etcd_tls=more), kept, NOW, said.append)
    assert "Secret x-etcd-tls: issued anew, as the old one does not hold for every name" in said
    assert "Secret x-etcd-client-hook: kept" in said


def test_a_client_that_is_added_gets_a_certificate_of_the_same_authority() -> None:
    kept = Kept()
    ensure(Wanted(etcd_tls=TLS), kept, NOW, lambda line: None)
    more = EtcdTls(TLS.authority, TLS.server, TLS.hosts, {**TLS.clients, "admin": "x-etcd-client-admin"})
    ensure(Wanted(etcd_tls=more), kept, NOW, lambda line: None)
    assert kept.data("x-etcd-client-admin")["ca.crt"] == kept.data("x-etcd-tls")["ca.crt"]


def test_an_authority_that_is_gone_is_not_made_anew_beside_its_certificates() -> None:
    kept = Kept()
    ensure(Wanted(etcd_tls=TLS), kept, NOW, lambda line: None)
    del kept.secrets[TLS.authority]
    with pytest.raises(Failed, match=r"x-etcd-ca with etcd's authority is gone.*put it back, or delete x-etcd-tls"):
        ensure(Wanted(etcd_tls=TLS), kept, NOW, lambda line: None)
    assert TLS.authority not in kept.secrets
