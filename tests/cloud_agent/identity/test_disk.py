"""Files are whole or not there, with their mode from the first moment, and in an order that lasts."""

import os
import stat
from pathlib import Path

import pytest

from aisix_cloud_agent.identity.disk import Disk, ensure_folder, remove_whole, write_whole

from tests.cloud_agent.failing_disk import FailingDisk, Killed

CALLS = 20


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("wanted", [0o600, 0o644])
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_whatever_the_umask(tmp_path: Path, wanted: int, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_whole(Disk(), tmp_path / "file", "text", wanted)
    finally:
        os.umask(before)
    assert mode(tmp_path / "file") == wanted


def test_a_key_is_never_readable_by_others(tmp_path: Path) -> None:
    class Watching(Disk):
        def write(self, descriptor: int, data: bytes) -> int:
            assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600
            return super().write(descriptor, data)

    before = os.umask(0)
    try:
        write_whole(Watching(), tmp_path / "file", "text", 0o600)
    finally:
        os.umask(before)


@pytest.mark.parametrize("kill", [False, True])
def test_whole_or_as_before(tmp_path: Path, kill: bool) -> None:
    text = "new" * 1000
    for number in range(CALLS):
        path = tmp_path / str(number)
        write_whole(Disk(), path, "old", 0o600)
        disk = FailingDisk(number, kill=kill)
        try:
            write_whole(disk, path, text, 0o600)
        except (OSError, Killed):
            assert path.read_text() in ("old", text)
            write_whole(Disk(), path, "again", 0o600)  # what was left behind is no obstacle
            assert path.read_text() == "again"
        else:
            assert path.read_text() == text
            break
    else:
        pytest.fail("more calls than expected")
    assert number > 7


def test_the_order_that_lasts_through_a_power_cut(tmp_path: Path) -> None:
    disk = FailingDisk()
    write_whole(disk, tmp_path / "file", "x", 0o644)
    assert disk.calls == [
        "remove .file.tmp",
        "create .file.tmp",
        "write",
        "chmod 644",
        "sync",
        "rename .file.tmp file",
        f"sync_folder {tmp_path.name}",
        "sync",
    ]


def test_never_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("theirs")
    (tmp_path / "file").symlink_to("target")
    (tmp_path / ".file.tmp").symlink_to("target")
    write_whole(Disk(), tmp_path / "file", "ours", 0o600)
    assert (tmp_path / "target").read_text() == "theirs"
    assert not (tmp_path / "file").is_symlink()


def test_folders_that_last(tmp_path: Path) -> None:
    disk = FailingDisk()
    ensure_folder(disk, tmp_path / "a" / "b")
    ensure_folder(disk, tmp_path / "a" / "b")
    assert [call for call in disk.calls if call != "sync"] == [
        "make_folder a",
        f"sync_folder {tmp_path.name}",
        "make_folder b",
        "sync_folder a",
    ]
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        ensure_folder(disk, tmp_path / "file" / "c")


def test_removing(tmp_path: Path) -> None:
    disk = FailingDisk()
    remove_whole(disk, tmp_path / "file")
    assert disk.calls == []
    (tmp_path / "file").touch()
    remove_whole(disk, tmp_path / "file")
    assert not (tmp_path / "file").exists() and len(disk.calls) == 3
