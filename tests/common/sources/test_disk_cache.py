"""The cache file: written privately and rarely, read with suspicion, never in the way."""

import asyncio
import os
from pathlib import Path

import pytest

from aisix_common.resources import ApiKey
from aisix_common.secrets.envelope import Keyring
from aisix_common.snapshot import Snapshot, apply, build, empty, restore
from aisix_common.sources.disk_cache import SMALLEST_LOG, DiskCache
from aisix_common.sources.sealing import sealer_for

from .support import Log
from tests.common.snapshot.rows import NOON, PREFIX, api_key, changes, gone, listing

FIRST = build(listing(api_key("a", "h1", 1), api_key("b", "h2", 2)), empty(PREFIX), NOON)
SECOND = apply(FIRST, changes(gone("api_keys/a", 3), api_key("c", "h3", 4)), NOON)
THIRD = apply(SECOND, changes(gone("api_keys/b", 5)), NOON)
KEYS = [f"{PREFIX}/api_keys/a", f"{PREFIX}/api_keys/c"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "snapshot.cache"


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def cache(path: Path, log: Log) -> DiskCache:
    return DiskCache(path, PREFIX, log.log)


def found(path: Path) -> set[str]:
    """Ids of the keys a fresh process would serve."""
    cached = DiskCache(path, PREFIX, Log().log).load()
    return set(restore(cached.listing, cached.pins, PREFIX, NOON).table(ApiKey).by_id) if cached else set()


async def test_it_is_written_privately_and_read_back(cache: DiskCache, path: Path) -> None:
    cache.note(FIRST, None)
    assert await cache.flush()
    assert found(path) == {"a", "b"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in path.parent.iterdir()] == [path.name]


async def test_changes_are_appended(cache: DiskCache, path: Path) -> None:
    cache.note(FIRST, None)
    await cache.flush()
    before = path.stat()
    cache.note(SECOND, KEYS)
    await cache.flush()
    after = path.stat()
    assert after.st_ino == before.st_ino
    assert before.st_size < after.st_size < 2 * before.st_size + 200
    assert found(path) == {"b", "c"}


async def test_nothing_noted_is_nothing_written(cache: DiskCache, path: Path) -> None:
    assert await cache.flush()
    assert not path.exists()


async def test_a_long_log_is_compacted(cache: DiskCache, path: Path) -> None:
    cache.note(FIRST, None)
    await cache.flush()
    inode, snapshot, large = path.stat().st_ino, FIRST, "x" * (SMALLEST_LOG // 2)
    for n in range(10, 14):
        snapshot = apply(snapshot, changes(api_key("a", "h1", n, created=1, display_name=large)), NOON)
        cache.note(snapshot, [f"{PREFIX}/api_keys/a"])
        await cache.flush()
    assert path.stat().st_ino != inode
    assert path.stat().st_size < SMALLEST_LOG * 1.5
    assert found(path) == {"a", "b"}


async def test_a_new_process_begins_with_a_base_of_its_own(cache: DiskCache, path: Path, log: Log) -> None:
    cache.note(FIRST, None)
    await cache.flush()
    path.write_bytes(path.read_bytes() + b"torn")
    other = DiskCache(path, PREFIX, log.log)
    assert other.load() is not None
    assert log.said("the end of the snapshot cache is damaged")
    other.note(SECOND, KEYS)
    await other.flush()
    assert found(path) == {"b", "c"}


@pytest.mark.parametrize("meddle", ["removed", "replaced", "shortened", "appended"])
async def test_somebody_else_at_the_file(cache: DiskCache, path: Path, meddle: str) -> None:
    cache.note(FIRST, None)
    await cache.flush()
    data = path.read_bytes()
    if meddle in ("removed", "replaced"):
        path.unlink()
    if meddle != "removed":
        path.write_bytes({"replaced": data, "shortened": data[:-3], "appended": data + b"x"}[meddle])
    cache.note(SECOND, KEYS)
    assert await cache.flush()
    assert found(path) == {"b", "c"}


class TestWorkers:
    """Each process writes its own file and starts with the newest of all."""

    @staticmethod
    async def write(path: Path, worker: int | None, snapshot: Snapshot) -> None:
        cache = DiskCache(path, PREFIX, Log().log, worker=worker)
        cache.note(snapshot, None)
        assert await cache.flush()

    @pytest.mark.parametrize("newest", [None, 0, 1, 7])
    @pytest.mark.parametrize("worker", [None, 0, 1, 2])
    async def test_the_newest_is_read(self, path: Path, worker: int | None, newest: int | None) -> None:
        for each in (None, 0, 1, 7):
            await self.write(path, each, SECOND if each == newest else FIRST)
        for trap in (".8x", ".tmp", ".1.tmp", ".9.9", "x.3"):
            await self.write(path.with_name(path.name + trap), None, THIRD)
        before = {each: each.read_bytes() for each in path.parent.iterdir()}
        cached = DiskCache(path, PREFIX, Log().log, worker=worker).load()
        assert cached is not None
        assert cached.listing.revision == SECOND.revision
        assert {each: each.read_bytes() for each in path.parent.iterdir()} == before

    async def test_only_its_own_is_written(self, path: Path) -> None:
        await self.write(path, None, FIRST)
        before = path.read_bytes()
        await self.write(path, 1, SECOND)
        assert path.read_bytes() == before
        assert sorted(each.name for each in path.parent.iterdir()) == [path.name, f"{path.name}.1"]

    @pytest.mark.parametrize("trouble", ["damaged", "another prefix", "others could write it", "a link"])
    async def test_a_newer_one_that_cannot_be_used_is_passed_over(self, path: Path, log: Log, trouble: str) -> None:
        await self.write(path, 1, FIRST)
        await self.write(path, None, SECOND)
        if trouble == "damaged":
            path.write_bytes(path.read_bytes()[:-1])
        elif trouble == "another prefix":
            path.write_bytes(path.read_bytes().replace(PREFIX.encode(), b"/other"))
        elif trouble == "others could write it":
            path.chmod(0o620)
        else:
            path.rename(path.with_name("elsewhere"))
            path.symlink_to("elsewhere")
        for worker in (0, 1):
            cached = DiskCache(path, PREFIX, log.log, worker=worker).load()
            assert cached is not None
            assert cached.listing.revision == FIRST.revision
        assert {line["path"] for line in log.lines if line["log_level"] == "warning"} == {str(path)}

    async def test_its_own_is_preferred_where_no_other_is_newer(self, path: Path, log: Log) -> None:
        await self.write(path, None, FIRST)
        await self.write(path, 0, FIRST)
        assert DiskCache(path, PREFIX, log.log, worker=0).load() is not None
        assert not log.lines
        assert DiskCache(path, PREFIX, log.log, worker=1).load() is not None
        assert log.said("the snapshot cache of another process is newer")


class TestReading:
    def test_no_file_is_no_news(self, cache: DiskCache, log: Log) -> None:
        assert cache.load() is None
        assert not log.lines

    @pytest.mark.parametrize("content", [b"", b"nonsense", b'{"version":1,"entries":[]}'])
    def test_what_is_no_cache_is_left_alone(self, cache: DiskCache, path: Path, log: Log, content: bytes) -> None:
        path.parent.mkdir()
        path.write_bytes(content)
        path.chmod(0o600)
        assert cache.load() is None
        assert log.said("the snapshot cache is not used")

    async def test_one_of_another_prefix(self, cache: DiskCache, path: Path, log: Log) -> None:
        cache.note(FIRST, None)
        await cache.flush()
        assert DiskCache(path, "/other", log.log).load() is None
        assert log.said("the snapshot cache is not used")

    async def test_one_that_others_could_write_is_not_trusted(self, cache: DiskCache, path: Path, log: Log) -> None:
        cache.note(FIRST, None)
        await cache.flush()
        path.chmod(0o620)
        assert cache.load() is None
        assert "others can write it" in str(log.lines)

    async def test_one_that_others_could_read_is_closed_to_them(self, cache: DiskCache, path: Path, log: Log) -> None:
        cache.note(FIRST, None)
        await cache.flush()
        path.chmod(0o644)
        assert cache.load() is not None
        assert path.stat().st_mode & 0o777 == 0o600
        assert log.said("others could read the snapshot cache")

    @pytest.mark.parametrize("what", ["folder", "link", "pipe"])
    def test_what_is_no_file(self, cache: DiskCache, path: Path, log: Log, what: str) -> None:
        path.parent.mkdir()
        if what == "folder":
            path.mkdir()
        elif what == "link":
            path.symlink_to("/etc/passwd")
        else:
            os.mkfifo(path, 0o600)
        assert cache.load() is None
        assert log.lines


class TestTrouble:
    async def test_a_folder_that_cannot_be_made(self, tmp_path: Path, log: Log) -> None:
        (tmp_path / "file").write_text("")
        cache = DiskCache(tmp_path / "file" / "snapshot.cache", PREFIX, log.log)
        cache.note(FIRST, None)
        assert not await cache.flush()
        assert not await cache.flush()
        assert len([line for line in log.lines if line["log_level"] == "error"]) == 1
        (tmp_path / "file").unlink()
        assert await cache.flush()
        assert log.said("the snapshot cache is written again")
        assert found(tmp_path / "file" / "snapshot.cache") == {"a", "b"}

    async def test_a_full_disk_keeps_what_was_there(self, cache: DiskCache, path: Path, log: Log) -> None:
        cache.note(FIRST, None)
        await cache.flush()
        unfinished = path.with_name(path.name + ".tmp")
        unfinished.mkdir()  # stands for any failure while the new base is written
        cache.note(SECOND, None)
        assert not await cache.flush()
        assert found(path) == {"a", "b"}
        unfinished.rmdir()
        assert await cache.flush()
        assert found(path) == {"b", "c"}

    async def test_an_old_unfinished_file_is_no_obstacle(self, cache: DiskCache, path: Path) -> None:
        path.parent.mkdir()
        path.with_name(path.name + ".tmp").write_text("from a crash")
        cache.note(FIRST, None)
        assert await cache.flush()
        assert found(path) == {"a", "b"}


async def test_what_is_noted_last_is_written_when_it_is_stopped(cache: DiskCache, path: Path) -> None:
    task = asyncio.get_running_loop().create_task(cache.run())
    cache.note(FIRST, None)
    async with asyncio.timeout(10):
        while not path.exists():
            await asyncio.sleep(0.01)
    cache.note(SECOND, KEYS)
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert found(path) == {"b", "c"}


K1 = Keyring([("k1", b"1" * 32)])
K2_K1 = Keyring([("k2", b"2" * 32), ("k1", b"1" * 32)])
K2 = Keyring([("k2", b"2" * 32)])


async def test_with_a_keyring_it_is_encrypted_also_after_the_keyring_has_changed(path: Path, log: Log) -> None:
    keyring = K1
    cache = DiskCache(path, PREFIX, log.log, sealer_for(lambda: keyring))
    cache.note(FIRST, None)
    await cache.flush()
    cache.note(SECOND, KEYS)
    await cache.flush()
    assert b"gpt-4o" not in path.read_bytes()
    assert b'"sealer":"aes-256-gcm"' in path.read_bytes()
    keyring = K2_K1
    loaded = cache.load()
    assert loaded is not None and loaded.listing.revision == SECOND.revision
    cache.note(SECOND, None)
    await cache.flush()
    keyring = K2
    loaded = cache.load()
    assert loaded is not None and loaded.listing.revision == SECOND.revision
    assert log.lines == []
    keyring = K1
    assert cache.load() is None
    assert "k2" in log.lines[0]["reason"] and "until etcd answers" in log.lines[0]["reason"]
    assert path.exists()
    assert DiskCache(path, PREFIX, log.log).load() is None
    assert "secrets.keyring is empty" in log.lines[1]["reason"]


async def test_with_a_keyring_files_in_clear_are_deleted(path: Path, log: Log) -> None:
    for worker in (None, 0, 1):
        cache = DiskCache(path, PREFIX, log.log, worker=worker)
        cache.note(FIRST, None)
        await cache.flush()
    sealed = DiskCache(path, PREFIX, log.log, sealer_for(lambda: K1), worker=2)
    sealed.note(SECOND, None)
    await sealed.flush()
    (path.parent / f"{path.name}.1.tmp").write_bytes(path.read_bytes())
    (path.parent / f"{path.name}.1.txt").write_bytes(path.read_bytes())
    loaded = DiskCache(path, PREFIX, log.log, sealer_for(lambda: K1), worker=0).load()
    assert loaded is not None and loaded.listing.revision == SECOND.revision
    assert sorted(each.name for each in path.parent.iterdir()) == [f"{path.name}.1.txt", f"{path.name}.2"]
    assert len([line for line in log.lines if "deleted" in line["event"]]) == 4
