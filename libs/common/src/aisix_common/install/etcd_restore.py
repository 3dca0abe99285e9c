"""Makes room for a snapshot that is to be restored: checks it, waits until etcd is gone, and sets its data aside.

`etcdutl snapshot restore` does the rest; it wants a folder that does not exist. Nothing is deleted.
"""

import fcntl
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from .etcd_backup import check
from .progress import Failed, Job, Later


def make_room(snapshot: Path, data: Path, now: datetime, job: Job, say: Callable[[str], None]) -> None:
    """Move `data` aside, once no etcd uses it. Raises Failed, and then nothing was moved."""
    try:
        check(snapshot)
        say(f"{snapshot.name}: whole")
        if not data.exists():
            say(f"{data}: not there, nothing to set aside")
            return
        job.patiently("etcd's data", lambda: _unused(data / "member" / "snap" / "db"))
        aside = data.with_name(f"{data.name}.before-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}")
        data.rename(aside)
        say(f"{data}: set aside as {aside.name}; delete it when all is well")
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}: see whether the volumes are mounted")


def _unused(database: Path) -> None:
    """Raises Later: an etcd has it open."""
    if not database.exists():
        return
    descriptor = os.open(database, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Later("an etcd uses it: scale its StatefulSet to 0")
    finally:
        os.close(descriptor)
