"""Data is set aside for a snapshot, never while an etcd uses it and never for a snapshot that is none."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from aisix_common.install.etcd_restore import make_room
from aisix_common.install.progress import Failed

from .conftest import Told
from tests.support.etcd import EtcdServer

NOW = datetime(2026, 11, 27, 2, 7, tzinfo=UTC)


def test_only_when_etcd_is_gone(fresh_etcd: EtcdServer, tmp_path: Path, told: Told) -> None:
    snapshot, data = tmp_path / "snapshot.db", tmp_path / "etcd" / "data"
    fresh_etcd.snapshot(snapshot)
    with pytest.raises(Failed, match="an etcd uses it: scale its StatefulSet to 0: gave up"):
        make_room(snapshot, data, NOW, told.job(3), told.lines.append)
    assert data.exists()
    fresh_etcd.stop()
    make_room(snapshot, data, NOW, told.job(), told.lines.append)
    assert not data.exists() and (tmp_path / "etcd" / "data.before-20261127T020700Z" / "member").exists()
    make_room(snapshot, data, NOW, told.job(), told.lines.append)
    assert told.lines[-1].endswith("nothing to set aside")


def test_not_for_what_is_no_snapshot(tmp_path: Path, told: Told) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "snapshot.db").write_bytes(b"x")
    for name, reason in (("snapshot.db", "is no snapshot"), ("missing.db", "see whether the volumes are mounted")):
        with pytest.raises(Failed, match=reason):
            make_room(tmp_path / name, data, NOW, told.job(), told.lines.append)
    assert data.exists()
