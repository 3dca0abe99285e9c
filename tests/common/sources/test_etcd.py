"""The source over a scripted watch: what it hands out, saves, says of itself and survives."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aisix_common.resources import EXTERNAL_KINDS, SECRET_PROVIDERS, ApiKey, ProviderKey
from aisix_common.secrets.envelope import Keyring
from aisix_common.snapshot import Snapshot
from aisix_common.sources.disk_cache import DiskCache
from aisix_common.sources.etcd import UNREACHABLE, EtcdSource
from aisix_common.sources.observed import SourceStatus
from aisix_common.store.client import EtcdClient, EtcdOptions
from aisix_common.store.types import Alive, KeyValue, Lost
from aisix_common.tasks import TaskOwner

from .support import NO_CLIENT, Log, Script, SetClock
from tests.common.snapshot.rows import BAD, LATER, NOON, PREFIX, api_key, changes, gone, listing, row
from tests.common.snapshot.sealed import BOTH, CLEAR, NEW, OLD, provider_key
from tests.support.etcd import EtcdServer


class Stage:
    """A source under test and what it did."""

    def __init__(self, cache: DiskCache | None = None, log: Log | None = None) -> None:
        self.script, self.clock, self.log = Script(), SetClock(), log or Log()
        self.keyring = OLD
        self.source = EtcdSource(
            NO_CLIENT,
            PREFIX + "/",
            cache,
            self.clock,
            self.log.log,
            watch=self.script.watch,
            keyring=lambda: self.keyring,
        )
        self.seen: list[Snapshot] = []
        self.failing = False
        self.handed_out = asyncio.Event()

    def put_to_use(self, snapshot: Snapshot) -> None:
        self.seen.append(snapshot)
        self.handed_out.set()
        if self.failing:
            raise ValueError("a mistake")

    @property
    def keys(self) -> set[str]:
        """Names of the keys that are served."""
        return set(self.seen[-1].table(ApiKey).by_name)

    @property
    def secrets(self) -> dict[str, str]:
        """What provider keys are served with, by id."""
        return {id: entry.value.api_key.reveal() for id, entry in self.seen[-1].table(ProviderKey).by_id.items()}

    @property
    def rejected(self) -> dict[str, tuple[str, bool]]:
        """By id: the failure, and whether a last good value is served."""
        return {bad.id: (bad.failure, bad.stale_since is not None) for bad in self.seen[-1].rejected.values()}

    async def rekey(self, keyring: Keyring) -> None:
        """Another keyring from now on; returns when its snapshot was handed out."""
        self.handed_out.clear()
        self.keyring = keyring
        self.source.rekeyed()
        async with asyncio.timeout(10):
            await self.handed_out.wait()

    @asynccontextmanager
    async def playing(self) -> AsyncIterator["Stage"]:
        async with TaskOwner() as tasks:
            tasks.spawn(self.source.run(self.put_to_use), name="source")
            yield self


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def test_a_listing_and_its_changes(stage: Stage) -> None:
    async with stage.playing():
        await stage.script.feed(listing(api_key("a", "h1", 1)))
        assert stage.keys == {"h1"}
        await stage.script.feed(changes(api_key("b", "h2", 2)), changes(gone("api_keys/a", 3)))
        assert stage.keys == {"h2"}
        assert stage.seen[-1].touched == {"api_keys": frozenset({"a"})}
        assert stage.source.snapshot is stage.seen[-1]
    assert stage.script.prefixes == ["/aisix/"], "siblings such as /aisix-b are not asked for"
    assert stage.script.closed


async def test_large_sets_go_the_same_way(stage: Stage) -> None:
    async with stage.playing():
        await stage.script.feed(listing(*(api_key(f"{n}", f"h{n}", n + 1) for n in range(1000))))
        await stage.script.feed(changes(*(gone(f"api_keys/{n}", 1001) for n in range(999))))
        assert stage.keys == {"h999"}


async def test_what_it_says_of_itself(stage: Stage) -> None:
    assert stage.source.status() == SourceStatus(at=NOON)
    async with stage.playing():
        await stage.script.feed(Lost("no route"))
        lost = stage.source.status()
        assert (lost.connected, lost.reloads, lost.failures) == (False, 1, {"fetch": 1})
        assert lost.last_failure
        assert (lost.last_failure.kind, lost.last_failure.message) == ("fetch", UNREACHABLE)

        await stage.script.feed(listing(api_key("a", "h1", 1), revision=5))
        listed = stage.source.status()
        assert (listed.connected, listed.reloads, listed.applied_revision, listed.observed_revision) == (True, 2, 5, 5)
        assert listed.last_reload
        assert listed.last_reload.successful
        assert listed.last_success == NOON
        assert listed.last_failure == lost.last_failure, "the last failure stays"

        stage.clock.advance(minutes=1)
        await stage.script.feed(changes(row("api_keys/a", BAD, 6, created=1)))
        bad = stage.source.status()
        assert bad.last_reload
        assert (bad.last_reload.successful, bad.last_reload.at, bad.last_success) == (False, LATER, NOON)
        assert bad.last_failure
        assert bad.last_failure.kind == "schema_failed"
        assert (bad.reloads, bad.failures) == (2, {"fetch": 1}), "single events are no reloads"

        await stage.script.feed(Alive(9))
        assert stage.source.status().observed_revision == stage.source.status().applied_revision == 9
        await stage.script.feed(listing(row("models/m", b"{", 2), row("models/n", b"{}", 3), revision=4))
        restored = stage.source.status()
        assert restored.applied_revision == 4, "an etcd restored from a backup goes back"
        assert restored.failures == {"fetch": 1, "parse": 1, "validate": 1}


async def test_a_consumer_that_fails_gets_the_next_one_whole(stage: Stage) -> None:
    async with stage.playing():
        await stage.script.feed(listing(api_key("a", "h1", 1)))
        stage.failing = True
        await stage.script.feed(changes(api_key("b", "h2", 2)))
        stage.failing = False
        await stage.script.feed(changes(api_key("c", "h3", 3)), changes(api_key("d", "h4", 4)))
    assert stage.keys == {"h1", "h2", "h3", "h4"}
    assert [snapshot.touched is None for snapshot in stage.seen] == [False, False, True, False]
    assert stage.log.said("a new configuration could not be put to use")


async def test_it_runs_once_at_a_time(stage: Stage) -> None:
    async with stage.playing():
        await stage.script.feed(listing())
        with pytest.raises(RuntimeError):
            await stage.source.run(stage.put_to_use)


class TestRestart:
    async def test_it_serves_from_disk_until_etcd_answers(self, tmp_path: Path) -> None:
        path, log = tmp_path / "cache", Log()
        async with Stage(DiskCache(path, PREFIX, log.log)).playing() as before:
            await before.script.feed(listing(api_key("a", "h1", 1)), changes(row("api_keys/a", BAD, 2, created=1)))

        async with Stage(DiskCache(path, PREFIX, log.log)).playing() as after:
            await after.script.feed(Lost("nobody there"))
            assert after.keys == {"h1"}
            status = after.source.status()
            assert (status.restored, status.connected, status.applied_revision) == (True, False, 2)
            assert after.seen[0].rejected["/aisix/api_keys/a"].stale_since == NOON
            await after.script.feed(listing(row("api_keys/a", BAD, 2, created=1), api_key("b", "h2", 3)))
            assert after.keys == {"h1", "h2"}
            assert not after.source.status().restored
            await after.script.feed(listing(api_key("b", "h2", 3), revision=4))
            assert after.keys == {"h2"}

    async def test_a_damaged_file_is_no_obstacle(self, tmp_path: Path) -> None:
        path = tmp_path / "cache"
        path.write_bytes(b"nonsense")
        async with Stage(DiskCache(path, PREFIX, Log().log)).playing() as stage:
            await stage.script.feed(listing(api_key("a", "h1", 1)))
            assert stage.keys == {"h1"}
        assert (cached := DiskCache(path, PREFIX, Log().log).load())
        assert len(cached.listing.rows) == 1


async def test_with_a_real_etcd(etcd: EtcdServer, etcd_prefix: str) -> None:
    seen: asyncio.Queue[Snapshot] = asyncio.Queue()

    async def served() -> set[str]:
        async with asyncio.timeout(10):
            return set((await seen.get()).table(ApiKey).by_name)

    async with EtcdClient(EtcdOptions(endpoints=(etcd.endpoint,))) as client, TaskOwner() as tasks:
        await client.put(f"{etcd_prefix}-sibling/api_keys/x", b"{}")
        await client.put(f"{etcd_prefix}/api_keys/a", api_key("a", "h1", 1).value)
        source = EtcdSource(client, etcd_prefix, None, SetClock(), Log().log)
        tasks.spawn(source.run(seen.put_nowait), name="source")
        assert await served() == {"h1"}
        revision = await client.put(f"{etcd_prefix}/api_keys/b", api_key("b", "h2", 1).value)
        assert await served() == {"h1", "h2"}
        status = source.status()
        assert status.connected
        assert (status.applied_revision or 0) >= revision
        await client.delete(f"{etcd_prefix}/api_keys/a")
        assert await served() == {"h2"}
        assert not len(source.snapshot.rejected)


async def test_a_lost_link_and_its_return_are_logged_once(stage: Stage) -> None:
    async with stage.playing():
        await stage.script.feed(listing(), Lost("no route"), Lost("no route"), Alive(5), changes(gone("x", 6)))
    events = [line["event"] for line in stage.log.lines]
    assert events == [
        "configuration read",
        "etcd is lost: what was read last is served on",
        "etcd answers again",
    ]


async def test_a_restart_while_etcd_is_down_and_written_to_before_it_is_reached(
    fresh_etcd: EtcdServer, tmp_path: Path
) -> None:
    path = tmp_path / "cache"
    seen: asyncio.Queue[Snapshot] = asyncio.Queue()

    async def until(expected: set[str]) -> None:
        async with asyncio.timeout(20):
            while set((await seen.get()).table(ApiKey).by_name) != expected:
                pass

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        async with EtcdClient(EtcdOptions(endpoints=(fresh_etcd.endpoint,))) as client, TaskOwner() as tasks:
            source = EtcdSource(client, PREFIX, DiskCache(path, PREFIX, Log().log), SetClock(), Log().log)
            tasks.spawn(source.run(seen.put_nowait), name="source")
            yield

    def put(row_id: str, name: str) -> None:
        fresh_etcd.ctl("put", f"{PREFIX}/api_keys/{row_id}", api_key(row_id, name, 1).value.decode())

    await asyncio.to_thread(put, "a", "h1")
    async with running():
        await until({"h1"})
        await asyncio.to_thread(put, "b", "h2")
        await until({"h1", "h2"})
    await asyncio.to_thread(fresh_etcd.kill)
    async with running():
        await until({"h1", "h2"})
        await asyncio.to_thread(fresh_etcd.start)
        await asyncio.to_thread(put, "c", "h3")
        await until({"h1", "h2", "h3"})


class TestSealedSecrets:
    async def test_they_are_read_under_the_keyring_of_the_moment(self, stage: Stage) -> None:
        async with stage.playing():
            await stage.script.feed(listing(provider_key("k", 1)))
            assert stage.secrets == {"k": CLEAR}
            await stage.script.feed(changes(provider_key("n", 2, NEW)))
            assert (stage.secrets, stage.rejected) == ({"k": CLEAR}, {"n": ("secret_sealed", False)})
            failure = stage.source.status().last_failure
            assert failure
            assert failure.kind == "secret_sealed"
            stage.keyring = BOTH
            await stage.script.feed(changes(provider_key("m", 3, NEW)))
            assert stage.secrets == {"k": CLEAR, "m": CLEAR}
        assert CLEAR not in str(stage.log.lines)

    async def test_another_keyring_lets_rows_in(self, stage: Stage) -> None:
        async with stage.playing():
            await stage.script.feed(listing(provider_key("k", 1), provider_key("n", 2, NEW)))
            assert stage.source.status().last_success is None
            await stage.rekey(BOTH)
            assert (stage.secrets, stage.rejected) == ({"k": CLEAR, "n": CLEAR}, {})
            assert stage.seen[-1].touched == {"provider_keys": frozenset({"n"})}
            assert stage.source.snapshot is stage.seen[-1]
            status = stage.source.status()
            assert status.last_reload
            assert (status.last_reload.successful, status.reloads, status.applied_revision) == (True, 1, 2)
            assert stage.log.said("a resource is no longer rejected")

    async def test_another_keyring_without_the_old_key(self, stage: Stage) -> None:
        async with stage.playing():
            await stage.script.feed(listing(provider_key("k", 1)))
            stage.clock.advance(minutes=1)
            await stage.rekey(NEW)
            assert (stage.secrets, stage.rejected) == ({"k": CLEAR}, {"k": ("secret_sealed", True)})
            assert stage.source.status().failures == {}
            assert stage.log.said("a resource was rejected: its last good value is served")
            await stage.script.feed(listing(provider_key("k", 1)))
            assert (stage.secrets, stage.rejected) == ({"k": CLEAR}, {"k": ("secret_sealed", True)})
            assert stage.source.status().failures == {"validate": 1}
            await stage.script.feed(changes(provider_key("k", 2, NEW, created=1, secret="sk-new")))
            assert (stage.secrets, stage.rejected) == ({"k": "sk-new"}, {})

    async def test_while_etcd_is_away(self, stage: Stage) -> None:
        async with stage.playing():
            await stage.script.feed(listing(provider_key("k", 1)), Lost("no route"))
            await stage.rekey(NEW)
            assert stage.rejected == {"k": ("secret_sealed", True)}
            assert not stage.source.status().connected

    async def test_large_sets_go_the_same_way(self, stage: Stage) -> None:
        async with stage.playing():
            await stage.script.feed(listing(*(provider_key(f"{n}", n + 1, NEW) for n in range(300))))
            assert stage.secrets == {}
            await stage.rekey(NEW)
            assert len(stage.secrets) == 300

    async def test_before_anything_was_read(self, stage: Stage) -> None:
        stage.source.rekeyed()
        async with stage.playing():
            await stage.script.feed(Lost("no route"))
            for _ in range(5):
                await asyncio.sleep(0)
            assert stage.seen == []
            await stage.script.feed(listing(provider_key("k", 1)))
            assert stage.source.snapshot.apply_seq == 1
            await stage.rekey(BOTH)
            assert stage.secrets == {"k": CLEAR}

    async def test_the_cache_is_written_anew_and_holds_nothing_in_clear(self, tmp_path: Path) -> None:
        path = tmp_path / "cache"
        async with Stage(DiskCache(path, PREFIX, Log().log)).playing() as before:
            await before.script.feed(listing(provider_key("k", 1)))
            await before.rekey(NEW)
        assert CLEAR.encode() not in path.read_bytes()
        after = Stage(DiskCache(path, PREFIX, Log().log))
        after.keyring = NEW
        async with after.playing():
            await after.script.feed(Lost("nobody there"))
            assert (after.secrets, after.rejected) == ({}, {"k": ("secret_sealed", False)})
            await after.rekey(BOTH)
            assert (after.secrets, after.rejected) == ({"k": CLEAR}, {})


async def test_a_second_root() -> None:
    script, seen = Script(), list[Snapshot]()
    source = EtcdSource(NO_CLIENT, "/ext/aisix", None, SetClock(), Log().log, watch=script.watch, kinds=EXTERNAL_KINDS)
    assert list(source.snapshot.tables) == ["secret_providers"]
    async with TaskOwner() as tasks:
        tasks.spawn(source.run(seen.append), name="source")
        aws = KeyValue("/ext/aisix/secret_providers/1", b'{"manager":"aws","name":"main"}', 1, 1)
        await script.feed(listing(aws))
    assert list(seen[-1].table(SECRET_PROVIDERS).by_name) == ["aws/main"]
    assert script.prefixes == ["/ext/aisix/"]
