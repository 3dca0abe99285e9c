"""Snapshots of a real etcd: whole, restorable, and only as many as are kept."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aisix_common.install.etcd_api import EtcdApi
from aisix_common.install.etcd_backup import back_up, check
from aisix_common.install.progress import Failed

from .conftest import Told
from .etcd import api, served
from tests.support.etcd import EtcdServer, free_port

pytestmark = pytest.mark.slow  # an etcd of its own for each

NOW = datetime(2026, 11, 27, 2, 7, tzinfo=UTC)


def test_a_snapshot_restores(fresh_etcd: EtcdServer, tmp_path: Path, told: Told) -> None:
    fresh_etcd.ctl("put", "/aisix/models/a", "before")
    etcd = EtcdApi([fresh_etcd.endpoint], None, told.job())
    path = back_up(etcd, tmp_path, 3, NOW, told.lines.append)
    assert path.name == "aisix-20261127T020700Z.db"
    fresh_etcd.ctl("put", "/aisix/models/a", "after")
    fresh_etcd.restore(path)
    assert fresh_etcd.ctl("get", "/aisix/models/a", "--print-value-only").strip() == "before"


def test_the_newest_are_kept_and_strangers_left_alone(fresh_etcd: EtcdServer, tmp_path: Path, told: Told) -> None:
    etcd = EtcdApi([fresh_etcd.endpoint], None, told.job())
    (tmp_path / "mine.db").write_text("x")
    (tmp_path / "aisix-20261126T000000Z.db.unfinished").write_text("a job that was killed")
    for day in range(4):
        back_up(etcd, tmp_path, 2, NOW + timedelta(days=day), told.lines.append)
    assert sorted(path.name for path in tmp_path.glob("*.db*")) == [
        "aisix-20261129T020700Z.db",
        "aisix-20261130T020700Z.db",
        "mine.db",
    ]


def test_a_member_that_is_away_costs_no_backup(fresh_etcd: EtcdServer, tmp_path: Path, told: Told) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    path = back_up(EtcdApi([away, fresh_etcd.endpoint], None, told.job()), tmp_path, 2, NOW, told.lines.append)
    check(path)
    assert told.lines[0] == f"etcd at {away} broke off in the middle (ConnectionRefusedError): the next member is asked"


def test_as_root_over_tls(tmp_path: Path, told: Told) -> None:
    with served(tmp_path) as (server, made):
        server.enable_auth("root", "secret")
        etcd = api(server, made, told.job())
        with pytest.raises(Failed, match=r"gave no snapshot: .*user not found"):
            back_up(etcd, tmp_path, 2, NOW, told.lines.append)
        etcd.login("root", "secret")
        back_up(etcd, tmp_path, 2, NOW, told.lines.append)
    assert [path.name for path in tmp_path.glob("aisix-*")] == ["aisix-20261127T020700Z.db"]


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "foreign"])
def test_what_is_damaged_is_noticed(fresh_etcd: EtcdServer, tmp_path: Path, damage: str, told: Told) -> None:
    path = back_up(EtcdApi([fresh_etcd.endpoint], None, told.job()), tmp_path, 2, NOW, told.lines.append)
    check(path)
    whole = path.read_bytes()
    changed = whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]
    path.write_bytes({"cut": whole[:-600], "changed": changed, "empty": b"", "foreign": b"x" * 544}[damage])
    with pytest.raises(Failed, match=r"is no snapshot, or not all of one|is damaged"):
        check(path)


def test_an_etcd_that_is_away_and_a_folder_that_is_not_there(etcd: EtcdServer, tmp_path: Path, told: Told) -> None:
    away = EtcdApi([f"http://127.0.0.1:{free_port()}"], None, told.job())
    with pytest.raises(Failed, match="broke off"):
        back_up(away, tmp_path, 2, NOW, told.lines.append)
    there = EtcdApi([etcd.endpoint], None, told.job())
    with pytest.raises(Failed, match="see whether the volume is mounted"):
        back_up(there, tmp_path / "nowhere", 2, NOW, told.lines.append)
