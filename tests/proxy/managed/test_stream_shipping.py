"""One stream on its way to the outbox, against a real etcd."""

import asyncio
import random
import string
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aisix_common.errors import StoreError
from aisix_common.managed.outbox import MOST_VALUE, MOST_WAITING, BatchName, batch_key, outbox_root
from aisix_common.store.types import Put
from aisix_proxy.managed import usage_stream
from aisix_proxy.managed.stream_shipping import MOST_OF_STREAM, Shipped, StreamShipping, Way
from aisix_proxy.managed.usage_stream import segment_path, segments

from tests.proxy.managed.events import Counted, fill, journal_in, line
from tests.proxy.managed.outbox_rows import OutboxRows, outbox_at
from tests.support.cutproxy import CutProxy
from tests.support.etcd import EtcdServer


class Scene:
    """A journal, what ships it, and where to."""

    def __init__(self, folder: Path, outbox: OutboxRows, disk: ThreadPoolExecutor) -> None:
        self.counted = Counted()
        self.outbox = outbox
        self.way = Way(outbox.client, outbox.run_root, disk, self.counted.usage)
        self.journal = journal_in(folder, self.counted, most_bytes=1)
        self.own = StreamShipping(self.way, self.journal.folder, lambda: self.journal.written)

    def successor(self) -> StreamShipping:
        """As if the process had ended here, and another had taken over its stream."""
        self.journal.close()
        return StreamShipping(self.way, self.journal.folder)


@pytest.fixture
async def scene(tmp_path: Path, etcd: EtcdServer, etcd_prefix: str) -> AsyncIterator[Scene]:
    async with outbox_at(etcd.endpoint, etcd_prefix) as outbox:
        with ThreadPoolExecutor(1) as disk:
            scene = Scene(tmp_path, outbox, disk)
            yield scene
            scene.journal.close()


async def drained(shipping: StreamShipping) -> int:
    """Ship all there is; how many batches that were."""
    count = 0
    while await shipping.ship(due=True) is Shipped.SOME:
        count += 1
    return count


async def test_batches_are_numbered_by_the_position_behind_them(scene: Scene) -> None:
    fill(scene.journal, 250)
    assert await scene.own.ship(due=False) is Shipped.SOME
    assert await scene.own.ship(due=False) is Shipped.SOME
    assert await drained(scene.own) == 1
    batches = await scene.outbox.batches()
    assert [stream for stream, _, _ in batches] == [scene.journal.stream] * len(batches)
    assert [number for _, _, batch in batches for number in batch] == list(range(250))
    ends = [number for _, number, _ in batches]
    assert ends[0] == sum(len(line(n)) + 1 for n in range(100))
    assert ends[-1] == scene.journal.written.end == usage_stream.shipped(scene.journal.folder)
    assert scene.counted.value("aisix_usage_shipped_events_total") == 250


async def test_a_batch_that_may_grow_waits_until_it_is_due(scene: Scene) -> None:
    assert await scene.own.ship(due=True) is Shipped.NOTHING
    fill(scene.journal, 99)
    assert await scene.own.ship(due=False) is Shipped.NOTHING
    fill(scene.journal, 1, 99)
    assert await scene.own.ship(due=False) is Shipped.SOME
    fill(scene.journal, 1, 100)
    assert await scene.own.ship(due=True) is Shipped.SOME
    assert await scene.outbox.events() == list(range(101))


async def test_segments_that_were_shipped_are_deleted(scene: Scene) -> None:
    fill(scene.journal, 1000)
    assert len(segments(scene.journal.folder)) > 2
    await drained(scene.own)
    assert [segment.start for segment in segments(scene.journal.folder)] == [scene.journal.written.segment]


async def test_at_most_so_many_batches_of_a_stream_wait_in_etcd(scene: Scene) -> None:
    for number in range(MOST_OF_STREAM - 2):
        name = BatchName(scene.journal.stream, number)
        await scene.outbox.client.put(batch_key(scene.outbox.run_root, name), b"")
    fill(scene.journal, 4)
    for _ in range(2):
        fill(scene.journal, 1)
        assert await scene.own.ship(due=True) is Shipped.SOME
    fill(scene.journal, 3, 10)
    assert await scene.own.ship(due=True) is Shipped.FULL
    fill(scene.journal, 3, 13)
    assert await scene.own.ship(due=True) is Shipped.FULL
    assert scene.own.oldest > 0
    other = BatchName("another-stream", 1)
    await scene.outbox.client.put(batch_key(scene.outbox.run_root, other), b"")
    await scene.outbox.empty()
    await drained(scene.own)
    assert await scene.outbox.events() == list(range(10, 16))
    assert scene.own.oldest == 0


async def test_at_most_so_many_batches_of_all_streams_wait_in_etcd(scene: Scene) -> None:
    client, root = scene.outbox.client, scene.outbox.run_root
    names = [BatchName(f"stream-{number % 32}", number) for number in range(MOST_WAITING - 3)]
    for at in range(0, len(names), 100):
        await client.txn((), [Put(batch_key(root, name), b"") for name in names[at : at + 100]])
    for number in range(3):
        fill(scene.journal, 1, number)
        assert await scene.own.ship(due=True) is Shipped.SOME
    fill(scene.journal, 1, 3)
    assert await scene.own.ship(due=True) is Shipped.FULL
    await client.delete(batch_key(root, names[0]))
    assert await scene.own.ship(due=True) is Shipped.SOME


async def test_what_cannot_be_compressed_goes_in_smaller_batches(scene: Scene) -> None:
    chance = random.Random(1)
    for number in range(200):
        text = "".join(chance.choices(string.ascii_letters + string.digits, k=2500))
        fill(scene.journal, 1, number, error_message=text)
    await drained(scene.own)
    rows = (await scene.outbox.client.range(outbox_root(scene.outbox.run_root))).rows
    assert len(rows) > 5
    assert all(MOST_VALUE / 4 < len(row.value) <= MOST_VALUE for row in rows[:-1])
    assert await scene.outbox.events() == list(range(200))


async def test_a_successor_goes_on_where_its_predecessor_stopped(scene: Scene) -> None:
    fill(scene.journal, 150)
    assert await scene.own.ship(due=True) is Shipped.SOME
    assert await drained(scene.successor()) >= 1
    assert await scene.outbox.events() == list(range(150))


async def test_a_batch_that_was_not_noted_is_not_shipped_twice_while_it_is_there(scene: Scene) -> None:
    fill(scene.journal, 100)
    await drained(scene.own)
    (scene.journal.folder / "shipped").unlink()  # killed between the two
    fill(scene.journal, 7, 100)
    await drained(scene.successor())
    assert await scene.outbox.events() == list(range(107))


async def test_a_batch_that_was_not_noted_and_is_gone_is_shipped_again(scene: Scene) -> None:
    fill(scene.journal, 10)
    await drained(scene.own)
    (scene.journal.folder / "shipped").unlink()
    await scene.outbox.empty()
    fill(scene.journal, 1, 10)
    await drained(scene.successor())
    assert await scene.outbox.events() == list(range(11)), "rather twice than never"


async def test_a_number_beyond_the_stream_is_its_end_to_a_successor_and_nothing_to_its_own_process(
    scene: Scene,
) -> None:
    name = BatchName(scene.journal.stream, 10**15)
    await scene.outbox.client.put(batch_key(scene.outbox.run_root, name), b"")
    fill(scene.journal, 1)
    assert await scene.own.ship(due=True) is Shipped.SOME
    fill(scene.journal, 1, 1)
    shipping = scene.successor()
    assert await shipping.ship(due=True) is Shipped.NOTHING
    assert shipping.reached == scene.journal.written.end


async def test_what_is_torn_is_left_out_and_counted(scene: Scene) -> None:
    fill(scene.journal, 2)
    shipping = scene.successor()
    with segment_path(scene.journal.folder, 0).open("ab") as file:
        file.write(line(9)[:-5])
    await drained(shipping)
    assert await scene.outbox.events() == [0, 1]
    assert scene.counted.dropped() == {"torn": 1}
    assert await drained(shipping) == 0
    assert scene.counted.dropped() == {"torn": 1}


async def test_a_mark_that_cannot_be_written_stops_nothing(scene: Scene) -> None:
    scene.journal.tend()
    (scene.journal.folder / "shipped").mkdir()
    fill(scene.journal, 1000)
    await drained(scene.own)
    assert await scene.outbox.events() == list(range(1000))
    assert len(segments(scene.journal.folder)) == 1, "what was shipped is deleted all the same"


async def test_what_etcd_did_not_take_is_put_again_as_it_was(
    tmp_path: Path, etcd: EtcdServer, etcd_prefix: str
) -> None:
    async with (
        CutProxy(etcd.port) as link,
        outbox_at(link.endpoint, etcd_prefix, timeout=0.3) as cut,
        outbox_at(etcd.endpoint, etcd_prefix) as straight,
    ):
        with ThreadPoolExecutor(1) as disk:
            scene = Scene(tmp_path, cut, disk)
            fill(scene.journal, 3)
            assert await scene.own.ship(due=True) is Shipped.SOME
            fill(scene.journal, 3, 3)
            await link.refuse()
            with pytest.raises(StoreError):
                await scene.own.ship(due=True)
            fill(scene.journal, 3, 6)
            waiting = scene.own.reached
            assert waiting < scene.journal.written.end
            await link.heal()
            for _ in range(50):
                try:
                    assert await scene.own.ship(due=True) is Shipped.SOME
                    break
                except StoreError:
                    await asyncio.sleep(0.05)
            await drained(scene.own)
            batches = await straight.batches()
            assert [batch for _, _, batch in batches] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
            assert batches[1][1] == waiting
            scene.journal.close()


async def test_one_batch_at_a_time_whoever_asks(scene: Scene) -> None:
    fill(scene.journal, 100)
    steps = await asyncio.gather(*(scene.own.ship(due=True) for _ in range(5)))
    assert sorted(step.name for step in steps) == ["NOTHING"] * 4 + ["SOME"]
    assert await scene.outbox.events() == list(range(100))
