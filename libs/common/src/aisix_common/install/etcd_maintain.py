"""Keeps etcd small: forgets old history, gives free space back to the disk, and lifts the alarm of a full disk.

etcd compacts itself (the chart sets that up), but only a defragmentation makes its file smaller, and a member does not
answer while it runs: one at a time, the leader last.
"""

from typing import Final

from .etcd_api import EtcdApi, Refused
from .progress import Failed, Job

_ROOM: Final = 0.9
"""Part of the quota that may be used when the alarm is lifted."""
_DEFRAGMENTING: Final = 600.0
"""Seconds for one member: it rewrites its whole file, and whoever gives up and asks again has it begin anew."""


def maintain(etcd: EtcdApi, job: Job, *, keep_revisions: int, quota_bytes: int) -> None:
    """Compact to `keep_revisions` revisions before now, defragment every member, lift the alarm. Raises Failed."""
    try:
        _compact(etcd, job, keep_revisions)
        for member in _leader_last(etcd):
            _defragment(etcd, member, job)
        _lift(etcd, quota_bytes, job)
    except Refused as refused:
        raise Failed(f"etcd refused: {refused}")


def _compact(etcd: EtcdApi, job: Job, keep: int) -> None:
    now = int(etcd.call("/v3/maintenance/status", {})["header"]["revision"])
    if (revision := now - keep) <= 0:
        return
    try:
        etcd.call("/v3/kv/compaction", {"revision": revision, "physical": True})
        job.say(f"history before revision {revision} is forgotten")
    except Refused as refused:
        if "compacted" not in str(refused):
            raise
        job.say("history is short already")


def _leader_last(etcd: EtcdApi) -> list[str]:
    leads = {}
    for member in etcd.endpoints:
        status = etcd.call("/v3/maintenance/status", {}, member)
        leads[member] = status.get("leader") == status["header"]["member_id"]
    return sorted(etcd.endpoints, key=lambda member: leads[member])


def _size(etcd: EtcdApi, member: str) -> int:
    """Bytes of a member's file. How much of it is free is not asked for: an etcd that is full no longer counts it."""
    return int(etcd.call("/v3/maintenance/status", {}, member).get("dbSize", 0))


def _defragment(etcd: EtcdApi, member: str, job: Job) -> None:
    before = _size(etcd, member)
    etcd.call("/v3/maintenance/defragment", {}, member, _DEFRAGMENTING)
    job.say(f"{member}: {_mib(before)} MiB, now {_mib(_size(etcd, member))} MiB")


def _lift(etcd: EtcdApi, quota_bytes: int, job: Job) -> None:
    raised = etcd.call("/v3/maintenance/alarm", {"action": "GET"}).get("alarms") or ()
    full = [alarm for alarm in raised if alarm.get("alarm") == "NOSPACE"]
    if any(alarm.get("alarm") == "CORRUPT" for alarm in raised):
        raise Failed("a member of etcd is corrupt: see docs/guides/etcd.md, Replacing a member")
    if not full:
        return
    largest = max(_size(etcd, member) for member in etcd.endpoints)
    if quota_bytes and largest > quota_bytes * _ROOM:
        raise Failed(
            f"etcd is full: {_mib(largest)} MiB are in use. Raise etcd.bundled.quotaBytes, then run this again"
        )
    for alarm in full:
        etcd.call("/v3/maintenance/alarm", {"action": "DEACTIVATE", "memberID": alarm["memberID"], "alarm": "NOSPACE"})
    job.say("the alarm of a full disk is lifted")


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f}"
