"""Users and roles on a real etcd: made, made exact again, and passwords set back."""

from pathlib import Path

import pytest

from aisix_common.install.etcd_api import EtcdApi, Refused
from aisix_common.install.etcd_auth import Credential, set_up
from aisix_common.install.progress import Failed
from aisix_common.install.roles import roles
from aisix_common.settings.storage import Etcd

from .conftest import Told
from .etcd import api, served
from tests.support.etcd import EtcdServer

pytestmark = pytest.mark.slow  # an etcd of its own for each

ROOT = Credential("root", "root-password")
USERS = {name: Credential(name, f"{name}-password") for name in ("proxy", "admin", "cloud-agent")}


def _set_up(server: EtcdServer, told: Told, *, managed: bool = False) -> EtcdApi:
    etcd = EtcdApi([server.endpoint], None, told.job())
    set_up(etcd, ROOT, USERS, roles(Etcd(), managed=managed), told.lines.append)
    return etcd


def test_sets_up_and_changes_nothing_the_second_time(fresh_etcd: EtcdServer, told: Told) -> None:
    etcd = _set_up(fresh_etcd, told)
    assert "authentication is on" in told.lines
    assert set(etcd.call("/v3/auth/user/list", {})["users"]) == {"root", "proxy", "admin"}
    assert set(etcd.call("/v3/auth/role/list", {})["roles"]) == {"root", "proxy", "admin"}
    with pytest.raises(Refused):
        EtcdApi([fresh_etcd.endpoint], None, told.job()).call("/v3/kv/range", {"key": "L2Fpc2l4"})
    assert "-password" not in "\n".join(told.lines)
    told.lines.clear()
    _set_up(fresh_etcd, told)
    assert told.lines == ["authentication is on already"]


def test_makes_what_was_changed_exact_again(fresh_etcd: EtcdServer, told: Told) -> None:
    etcd = _set_up(fresh_etcd, told)
    fresh_etcd._root = "root:root-password"
    fresh_etcd.ctl("role", "grant-permission", "proxy", "readwrite", "/", "0")
    fresh_etcd.ctl("role", "grant-permission", "proxy", "readwrite", "/aisix/", "/aisix0")
    fresh_etcd.ctl("role", "add", "theirs")
    fresh_etcd.ctl("user", "grant-role", "proxy", "theirs")
    etcd.call("/v3/auth/user/changepw", {"name": "proxy", "password": "another"})
    told.lines.clear()
    etcd = _set_up(fresh_etcd, told)
    assert told.lines == [
        "authentication is on already",
        "role proxy: / taken away",
        "role proxy: read /aisix/*",
        "user proxy: role theirs taken away",
        "user proxy: password set to that of the Secret",
    ]
    assert "theirs" in etcd.call("/v3/auth/role/list", {})["roles"], "roles of others are left alone"
    assert etcd.login("proxy", "proxy-password")


def test_another_mode_has_other_users(fresh_etcd: EtcdServer, told: Told) -> None:
    _set_up(fresh_etcd, told)
    etcd = _set_up(fresh_etcd, told, managed=True)
    assert set(etcd.call("/v3/auth/user/list", {})["users"]) == {"root", "proxy", "cloud-agent"}
    assert set(etcd.call("/v3/auth/role/list", {})["roles"]) == {"root", "proxy", "cloud-agent"}


def test_goes_on_where_it_was_interrupted(fresh_etcd: EtcdServer, told: Told) -> None:
    fresh_etcd.ctl("user", "add", "root:half-made")
    fresh_etcd.ctl("user", "add", "proxy:half-made")
    etcd = _set_up(fresh_etcd, told)
    assert etcd.login("proxy", "proxy-password")


def test_over_tls_as_the_chart_runs_it(tmp_path: Path, told: Told) -> None:
    with served(tmp_path) as (server, made):
        for _ in range(2):
            etcd = api(server, made, told.job())
            set_up(etcd, ROOT, USERS, roles(Etcd(), managed=False), told.lines.append)
        assert told.lines[-1] == "authentication is on already"


def test_another_password_of_root_is_said(fresh_etcd: EtcdServer, told: Told) -> None:
    fresh_etcd.enable_auth("root", "older")
    with pytest.raises(Failed, match=r"other passwords than the Secret.*put the old Secret back"):
        _set_up(fresh_etcd, told)
