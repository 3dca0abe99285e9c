"""A real etcd is made small again, and its alarm is lifted."""

import base64
from pathlib import Path

import pytest

from aisix_common.install.etcd_api import EtcdApi, Refused
from aisix_common.install.etcd_maintain import maintain
from aisix_common.install.progress import Failed

from .conftest import Told
from tests.support.etcd import EtcdServer

_QUOTA = 4 << 20


def _put(etcd: EtcdApi, key: str, size: int) -> None:
    encoded = [base64.b64encode(part).decode() for part in (key.encode(), b"x" * size)]
    etcd.call("/v3/kv/put", {"key": encoded[0], "value": encoded[1]})


def test_forgets_history_and_gives_back_space(fresh_etcd: EtcdServer, told: Told) -> None:
    etcd = EtcdApi([fresh_etcd.endpoint], None, told.job())
    for _ in range(40):
        _put(etcd, "/aisix/x", 100_000)
    maintain(etcd, told.job(), keep_revisions=5, quota_bytes=0)
    assert told.lines[0] == "history before revision 36 is forgotten"
    before, after = (float(part) for part in told.lines[1].replace(" MiB", "").split(": ")[1].split(", now "))
    assert after < before / 2
    told.lines.clear()
    maintain(etcd, told.job(), keep_revisions=5, quota_bytes=0)
    assert told.lines[0] == "history is short already"


def test_lifts_the_alarm_of_a_full_disk_when_there_is_room(tmp_path: Path, told: Told) -> None:
    with EtcdServer(tmp_path, arguments=("--quota-backend-bytes", str(_QUOTA))) as server:
        etcd = EtcdApi([server.endpoint], None, told.job())
        with pytest.raises(Refused, match="database space exceeded"):
            for _ in range(200):
                _put(etcd, "/aisix/x", 100_000)
        maintain(etcd, told.job(), keep_revisions=1, quota_bytes=_QUOTA)
        assert told.lines[-1] == "the alarm of a full disk is lifted"
        _put(etcd, "/aisix/x", 10)


def test_leaves_the_alarm_where_rows_fill_the_disk(tmp_path: Path, told: Told) -> None:
    with EtcdServer(tmp_path, arguments=("--quota-backend-bytes", str(_QUOTA))) as server:
        etcd = EtcdApi([server.endpoint], None, told.job())
        with pytest.raises(Refused, match="database space exceeded"):
            for number in range(200):
                _put(etcd, f"/aisix/{number}", 100_000)
        with pytest.raises(Failed, match=r"Raise etcd\.bundled\.quotaBytes"):
            maintain(etcd, told.job(), keep_revisions=1, quota_bytes=_QUOTA // 2)


@pytest.mark.slow
def test_one_member_after_the_other_the_leader_last(tmp_path: Path, told: Told) -> None:
    from tests.support.etcd import EtcdCluster

    with EtcdCluster(tmp_path) as cluster:
        etcd = EtcdApi(cluster.endpoints, None, told.job())
        for _ in range(20):
            _put(etcd, "/aisix/x", 100_000)
        maintain(etcd, told.job(), keep_revisions=2, quota_bytes=0)
        status = etcd.call("/v3/maintenance/status", {}, told.lines[-1].rpartition(": ")[0])
        assert status["leader"] == status["header"]["member_id"]
        assert len(told.lines) == 4
