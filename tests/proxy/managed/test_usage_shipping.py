"""All that is done about usage events beside recording them: shipped, taken over, bounded; also after a kill -9."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from aisix_common.logs import get_logger
from aisix_common.managed.outbox import BatchName, batch_key
from aisix_common.settings.control import Usage
from aisix_common.tasks import TaskOwner
from aisix_proxy.managed.stream_shipping import StreamShipping
from aisix_proxy.managed.usage_journal import UsageJournal
from aisix_proxy.managed.usage_shipping import MOST_CLAIMED, UsageShipping
from aisix_proxy.managed.usage_stream import LOCK, claim, segment_path, segments

from tests.proxy.managed.events import Counted, fill, journal_in, line
from tests.proxy.managed.outbox_rows import OutboxRows, outbox_at
from tests.support.builders import Clock
from tests.support.cutproxy import CutProxy
from tests.support.etcd import EtcdServer

NOW = time.time()
CHILD = """
import itertools, os, sys
from pathlib import Path
from tests.proxy.managed.events import journal_in, usage_event
journal = journal_in(Path(sys.argv[1]), most_bytes=1)
for number in itertools.count():
    journal.record(usage_event(number))
    os.write(1, b"%d\\n" % number)
"""


class Process:
    """A journal and what ships it, as in a proxy."""

    def __init__(self, folder: Path, outbox: OutboxRows, clock: Clock, **usage: int) -> None:
        self.counted = Counted()
        self.clock = clock
        self.usage = Usage(folder=str(folder), **({"flush_secs": 1} | usage))
        self.journal: UsageJournal = journal_in(folder, self.counted, most_bytes=self.usage.max_bytes)
        self.shipping = UsageShipping(
            self.journal,
            outbox.client,
            outbox.run_root,
            self.usage,
            self.counted.usage,
            clock,
            get_logger("usage"),
        )


@asynccontextmanager
async def living(
    folder: Path, outbox: OutboxRows, *, clock: Clock | None = None, **usage: int
) -> AsyncIterator[Process]:
    process = Process(folder, outbox, clock or Clock(datetime.fromtimestamp(NOW, UTC)), **usage)
    async with TaskOwner() as tasks:
        tasks.spawn(process.shipping.run(), name="usage")
        yield process
    process.journal.close()


@pytest.fixture
async def outbox(etcd: EtcdServer, etcd_prefix: str) -> AsyncIterator[OutboxRows]:
    async with outbox_at(etcd.endpoint, etcd_prefix) as rows:
        yield rows


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def shipped(process: Process, events: int) -> Callable[[], bool]:
    return lambda: process.counted.value("aisix_usage_shipped_events_total") >= events


@pytest.mark.slow
async def test_every_event_that_was_recorded_before_a_kill_is_shipped_once_by_a_successor(
    tmp_path: Path, outbox: OutboxRows
) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as child:
        assert child.stdout is not None
        said = b""
        while said.count(b"\n") < 700:
            said += await asyncio.to_thread(os.read, child.stdout.fileno(), 1 << 16)
        child.send_signal(signal.SIGKILL)
        said += child.stdout.read()
    recorded = said.count(b"\n")
    (stream,) = tmp_path.iterdir()
    assert len(segments(stream)) > 1
    async with living(tmp_path, outbox):
        await until(lambda: not stream.exists())
    events = await outbox.events()
    assert events == list(range(len(events))), "in order, each once"
    assert recorded <= len(events) <= recorded + 1, "the last may have been killed before it was told of"


async def test_a_hundred_events_go_at_once_and_fewer_after_a_while(tmp_path: Path, outbox: OutboxRows) -> None:
    async with living(tmp_path, outbox) as process:
        fill(process.journal, 5)
        await until(shipped(process, 5))
    async with living(tmp_path, outbox, flush_secs=3600) as process:
        fill(process.journal, 130, 5)
        await until(shipped(process, 100))
        assert sorted(await outbox.events()) == list(range(105))
    assert sorted(await outbox.events()) == list(range(135)), "the rest when it ends"


async def test_while_etcd_is_away_events_wait_on_disk_and_it_is_told_once(
    tmp_path: Path, etcd: EtcdServer, outbox: OutboxRows
) -> None:
    with capture_logs() as told:
        async with CutProxy(etcd.port) as link, outbox_at(link.endpoint, outbox.run_root, timeout=0.2) as cut:
            await link.refuse()
            async with living(tmp_path, cut) as process:
                fill(process.journal, 250)
                await until(lambda: bool(told))
                assert process.counted.value("aisix_usage_journal_oldest_seconds") > 0
                await link.heal()
                await until(shipped(process, 250))
                assert process.counted.value("aisix_usage_journal_oldest_seconds") == 0
    assert [line["event"] for line in told] == [
        "usage events are not passed on to etcd and wait on disk",
        "usage events are passed on to etcd again",
    ]
    assert await outbox.events() == list(range(250))


async def test_what_cannot_be_passed_on_in_the_end_is_left_to_a_successor(
    tmp_path: Path, etcd: EtcdServer, outbox: OutboxRows
) -> None:
    async with CutProxy(etcd.port) as link, outbox_at(link.endpoint, outbox.run_root, timeout=0.2) as cut:
        await link.refuse()
        async with living(tmp_path, cut, flush_secs=3600) as process:
            fill(process.journal, 7)
    async with living(tmp_path, outbox):
        await until(lambda: not process.journal.folder.exists())
    assert await outbox.events() == list(range(7))


async def test_the_living_keep_what_is_theirs_and_share_what_is_nobodys(tmp_path: Path, outbox: OutboxRows) -> None:
    gone = []
    for number in range(6):
        journal = journal_in(tmp_path)
        fill(journal, 3, 3 * number)
        journal.close()
        gone.append(journal.folder)
    busy = journal_in(tmp_path)
    fill(busy, 3, 1000)
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "somebodys-folder").mkdir()
    async with living(tmp_path, outbox), living(tmp_path, outbox):
        await until(lambda: not any(folder.exists() for folder in gone))
    assert sorted(await outbox.events()) == list(range(18)), "each once, and none of the living"
    assert {"lost+found", "somebodys-folder", busy.stream} <= set(os.listdir(tmp_path))
    busy.close()


async def test_an_outbox_that_nobody_empties_holds_a_bounded_part(tmp_path: Path, outbox: OutboxRows) -> None:
    with capture_logs() as told:
        async with living(tmp_path, outbox) as process:
            fill(process.journal, 7000)
            await until(lambda: any("wait on disk" in line["event"] for line in told))
            waiting = await outbox.batches()
            assert len(waiting) == 64
            await outbox.empty()
            await until(shipped(process, 7000))
            await until(lambda: len(told) == 2)
    events = [number for _, _, batch in waiting for number in batch] + await outbox.events()
    assert events == list(range(7000))
    assert [line["event"] for line in told][1:] == ["the cloud agent takes usage events again"]


async def test_a_stream_that_cannot_be_had_keeps_nobody_from_the_others(tmp_path: Path, outbox: OutboxRows) -> None:
    names = []
    for number in range(3):
        journal = journal_in(tmp_path)
        fill(journal, 2, 2 * number)
        journal.close()
        names.append(journal.stream)
    bad = tmp_path / "5-bad"
    bad.mkdir()
    (bad / LOCK).symlink_to(tmp_path / "elsewhere")
    for before, after in zip(names, ("1-first", "4-second", "9-last"), strict=True):
        (tmp_path / before).rename(tmp_path / after)
    with capture_logs() as told:
        async with living(tmp_path, outbox) as process:
            await until(shipped(process, 6))
            await process.shipping._sweep()
            await until(lambda: set(os.listdir(tmp_path)) == {"5-bad", process.journal.stream})
    assert await outbox.events() == list(range(6))
    assert [line["event"] for line in told] == ["journals of others cannot be taken over"]


async def test_one_stream_that_waits_and_one_that_does_not_are_told_of_once(tmp_path: Path, outbox: OutboxRows) -> None:
    process = Process(tmp_path, outbox, Clock())
    gone = journal_in(tmp_path)
    for number in range(64):
        fill(gone, 1, number)
        await outbox.client.put(batch_key(outbox.run_root, BatchName(gone.stream, gone.written.end)), b"")
    fill(gone, 1)
    gone.close()
    orphan = StreamShipping(process.shipping._way, gone.folder)
    with capture_logs() as told:
        for number in range(3):
            fill(process.journal, 1, number)
            assert not await process.shipping._pass_on(orphan, due=True)
            assert await process.shipping._pass_on(process.shipping._own, due=True)
        assert len(told) == 1
        await outbox.empty()
        assert await process.shipping._pass_on(orphan, due=True)
    assert [line["event"] for line in told][1:] == ["the cloud agent takes usage events again"]
    process.journal.close()


@pytest.mark.slow
async def test_a_backlog_gets_on_as_fast_as_the_outbox_is_emptied(tmp_path: Path, outbox: OutboxRows) -> None:
    async with living(tmp_path, outbox) as process:
        fill(process.journal, 38_400)
        async with asyncio.timeout(20):  # six times full: with pauses that grow it would take a minute
            while process.counted.value("aisix_usage_shipped_events_total") < 38_400:
                if len(await outbox.batches()) >= 64:
                    await outbox.empty()
                await asyncio.sleep(0.05)


async def test_what_processes_that_are_gone_left_is_within_the_bounds_too_however_many_they_were(
    tmp_path: Path, outbox: OutboxRows
) -> None:
    folders = []
    for number in range(MOST_CLAIMED + 6):
        journal = journal_in(tmp_path)
        fill(journal, 100, error_message="x" * 500)
        journal.close()
        os.utime(segments(journal.folder)[0].path, (NOW - 100 + number, NOW - 100 + number))
        folders.append(journal.folder)
    busy = journal_in(tmp_path)
    fill(busy, 100, error_message="x" * 500)
    size = segments(busy.folder)[0].size
    process = Process(tmp_path, outbox, Clock(datetime.fromtimestamp(NOW, UTC)), max_bytes=1 << 20)
    process.shipping._orphans += await asyncio.to_thread(process.shipping._claim)
    assert len(process.shipping._orphans) == MOST_CLAIMED
    await process.shipping._sweep()
    left = sum(segment.size for folder in (*folders, busy.folder) for segment in segments(folder))
    assert (1 << 20) - size < left <= 1 << 20
    gone = [folder for folder in folders if not segments(folder)]
    assert gone == folders[: len(gone)], "the oldest"
    assert process.counted.dropped() == {"journal_full": 100 * len(gone)}
    ours = {orphan.shipping.folder for orphan in process.shipping._orphans}
    assert not any(folder.exists() for folder in gone if folder not in ours)
    assert segments(busy.folder)
    busy.close()
    process.journal.close()
    for orphan in process.shipping._orphans:
        orphan.claim.close()


async def test_over_the_bound_the_oldest_are_dropped_and_counted(tmp_path: Path, outbox: OutboxRows) -> None:
    size = 1 << 20
    gone = journal_in(tmp_path, most_bytes=1)
    fill(gone, 500, error_message="x" * 500)
    gone.close()
    for segment in segments(gone.folder):
        os.utime(segment.path, (NOW - 60, NOW - 60))
    process = Process(tmp_path, outbox, Clock(datetime.fromtimestamp(NOW, UTC)), max_bytes=size)
    fill(process.journal, 3000, 500, error_message="x" * 500)
    process.shipping._orphans += await asyncio.to_thread(process.shipping._claim)
    with capture_logs() as told:
        await process.shipping._sweep()
        await process.shipping._sweep()
    assert [line["reason"] for line in told] == ["journal_full"]
    assert segments(gone.folder) == []
    left = sum(segment.size for segment in segments(process.journal.folder))
    assert size - (1 << 18) < left <= size
    assert process.counted.value("aisix_usage_journal_bytes") == left
    await process.shipping.flush(10)
    events = await outbox.events()
    assert events == list(range(3500 - len(events), 3500)), "the newest are there"
    assert process.counted.dropped() == {"journal_full": 3500 - len(events)}
    await process.shipping._sweep()
    assert process.counted.value("aisix_usage_journal_bytes") == 0
    process.journal.close()
    for orphan in process.shipping._orphans:
        orphan.claim.close()


async def test_events_that_are_too_old_are_dropped_and_counted(tmp_path: Path, outbox: OutboxRows) -> None:
    journal = journal_in(tmp_path, most_bytes=1)
    fill(journal, 1000)
    journal.close()
    count = sum(segment.path.read_bytes().count(b"\n") for segment in segments(journal.folder)[:-1])
    for segment in segments(journal.folder)[:-1]:
        os.utime(segment.path, (1, 1))
    process = Process(tmp_path, outbox, Clock(datetime.fromtimestamp(NOW, UTC)), max_age_secs=60)
    orphans = await asyncio.to_thread(process.shipping._claim)
    process.shipping._orphans += orphans
    await process.shipping._sweep()
    assert process.counted.dropped() == {"expired": count}
    assert len(segments(journal.folder)) == 1
    for orphan in orphans:
        orphan.claim.close()


async def test_a_disk_that_cannot_be_read_ends_nothing(tmp_path: Path, outbox: OutboxRows) -> None:
    folder = tmp_path / "stream-1"
    folder.mkdir()
    (folder / LOCK).touch()
    segment_path(folder, 0).mkdir()  # reads fail
    with capture_logs() as told:
        async with living(tmp_path, outbox) as process:
            await until(lambda: any("cannot be read" in line["event"] for line in told))
            fill(process.journal, 3)
            await until(shipped(process, 3))
    assert await outbox.events() == [0, 1, 2]
    mine = claim(folder)
    assert mine is not None, "it was given up in the end"
    mine.close()


async def test_flush_has_its_deadline(tmp_path: Path, etcd: EtcdServer, etcd_prefix: str) -> None:
    async with CutProxy(etcd.port) as link, outbox_at(link.endpoint, etcd_prefix, timeout=30) as cut:
        await link.refuse()
        process = Process(tmp_path, cut, Clock())
        fill(process.journal, 3)
        with capture_logs() as told:
            async with asyncio.timeout(5):
                await process.shipping.flush(0.1)
        assert [line["log_level"] for line in told] == ["warning"]
        process.journal.close()
        assert segments(process.journal.folder)[0].path.read_bytes().startswith(line(0))
