"""etcd's HTTP API over TLS with certificates of our own making, on a real etcd."""

from pathlib import Path

import pytest

from aisix_common.install.etcd_api import EtcdApi, Refused, Tls, decoded, encoded
from aisix_common.install.progress import Failed

from .conftest import Told
from .etcd import api, served
from tests.support.etcd import EtcdServer, free_port


def test_over_tls_with_client_certificates(tmp_path: Path, told: Told) -> None:
    with served(tmp_path) as (server, made):
        etcd = api(server, made, told.job())
        assert int(etcd.call("/v3/maintenance/status", {})["header"]["revision"]) == 1
        foreign = Tls(made.foreign_ca, made.foreign_cert, made.foreign_key)
        with pytest.raises(Failed, match="a certificate that the authority did not issue"):
            EtcdApi([server.endpoint], foreign, told.job()).call("/v3/maintenance/status", {})
        unknown = Tls(made.ca, made.foreign_cert, made.foreign_key)
        with pytest.raises(Failed, match="gave up"):
            EtcdApi([server.endpoint], unknown, told.job(3)).call("/v3/maintenance/status", {})


def test_files_that_are_not_there_are_named(tmp_path: Path, told: Told) -> None:
    with pytest.raises(Failed, match=r"ca\.crt"):
        EtcdApi(["https://x:2379"], Tls(tmp_path / "ca.crt", tmp_path / "c", tmp_path / "k"), told.job())


def test_logs_in_and_again_when_users_changed(fresh_etcd: EtcdServer, told: Told) -> None:
    etcd = EtcdApi([fresh_etcd.endpoint], None, told.job())
    assert not etcd.login("root", "secret"), "authentication is off"
    fresh_etcd.enable_auth("root", "secret")
    with pytest.raises(Refused):
        etcd.login("root", "wrong")
    with pytest.raises(Refused, match="user name is empty"):
        EtcdApi([fresh_etcd.endpoint], None, told.job()).call("/v3/auth/user/list", {})
    assert etcd.login("root", "secret")
    fresh_etcd.ctl("user", "add", "other:x")
    assert set(etcd.call("/v3/auth/user/list", {})["users"]) == {"root", "other"}
    fresh_etcd.restart()  # it forgets its tokens
    assert set(etcd.call("/v3/auth/user/list", {})["users"]) == {"root", "other"}


def test_waits_for_an_etcd_that_comes_late_and_takes_another_member(etcd: EtcdServer, told: Told) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    client = EtcdApi([dead, etcd.endpoint], None, told.job())
    assert "header" in client.call("/v3/maintenance/status", {})
    assert told.lines == [f"etcd: {dead} is not reached (ConnectionRefusedError); trying on"]
    with pytest.raises(Failed, match="gave up"):
        EtcdApi([dead], None, told.job(5)).call("/v3/maintenance/status", {})


def test_what_is_no_endpoint_is_said(told: Told) -> None:
    with pytest.raises(Failed, match="is no endpoint"):
        EtcdApi(["etcd:2379"], None, told.job()).call("/v3/maintenance/status", {})


def test_keys_as_the_api_has_them() -> None:
    assert decoded(encoded("/aisix/")) == "/aisix/"
    assert decoded("/w==") == "\\xff"


def test_a_common_name_in_a_clients_certificate_is_explained(tmp_path: Path, told: Told) -> None:
    with served(tmp_path) as (server, made):
        server.enable_auth("root", "secret")
        named = EtcdApi([server.endpoint], Tls(made.ca, made.server_cert, made.server_key), told.job())
        with pytest.raises(Refused, match="takes no client certificate with a common name"):
            named.login("root", "secret")
