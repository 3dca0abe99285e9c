"""The lead by a Lease: who has it, for how long, and that no two ever think so; on clocks that the tests move."""

import asyncio
import heapq
import random
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from aisix_cloud_agent.in_kubernetes.api import Access, Document, Kind, KubernetesApi, Objects, Place
from aisix_cloud_agent.in_kubernetes.lease_lock import (
    DURATION,
    MARGIN,
    RENEW,
    RETRY,
    KubernetesLock,
    Record,
    Watched,
    own_identity,
    record_of,
)

from tests.support.kubernetes_api import KubernetesApi as Cluster
from tests.support.kubernetes_api import kubernetes_api
from tests.support.kubernetes_store import LEASES, Key

AT = Place("aisix", "agent")
KEY = Key(LEASES, *AT)
START = datetime(2026, 6, 15, 12, tzinfo=UTC)


class Stop(Exception):
    """The time of a test is over."""


class Time:
    """A monotonic clock that goes on when all `parties` sleep, to when the first of them wakes; `wrong` is how far the
    wall clock is off."""

    def __init__(self, parties: int = 1, wrong: timedelta = timedelta()) -> None:
        self.at = 1000.0
        self.until = float("inf")
        self.events: list[tuple[float, Callable[[], object]]] = []
        """What happens at the first sleep that reaches a moment."""
        self._parties = parties
        self._wrong = wrong
        self._asleep: list[tuple[float, int, asyncio.Future[None]]] = []
        self._number = 0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.at) + self._wrong

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._number += 1
        heapq.heappush(self._asleep, (self.at + seconds, self._number, future))
        if len(self._asleep) == self._parties:
            wakes, _, first = heapq.heappop(self._asleep)
            self.at = max(self.at, wakes)
            first.set_result(None)
        await future
        while self.events and self.events[0][0] <= self.at:
            self.events.pop(0)[1]()
        if self.at >= self.until:
            raise Stop


class Home:
    """A cluster, and locks in it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.account = cluster.account("aisix", "agent")
        cluster.accounts.allow(self.account, "get create update", "leases", "aisix")
        cluster.mount(folder, self.account)
        self.api = KubernetesApi(Access(cluster.url, folder / "token", folder / "ca.crt", "aisix"))

    def lock(self, time: Time, name: str = "a", objects: Objects | None = None) -> KubernetesLock:
        lock = KubernetesLock(objects or self.api, AT, name, clock=time, monotonic=time.monotonic, sleep=time.sleep)
        assert not lock.holds()
        return lock

    @property
    def lease(self) -> Document:
        return self.cluster.store.get(KEY)

    @property
    def holder(self) -> str:
        return record_of(self.lease).holder

    def edit(self, **spec: object) -> None:
        self.cluster.store.patch(KEY, {"spec": spec}, "somebody")

    def lay(self, **spec: object) -> None:
        self.cluster.namespaces.add("aisix")
        self.cluster.store.create(LEASES, "aisix", {"metadata": {"name": AT.name}, "spec": spec}, "somebody")


@pytest_asyncio.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    async with kubernetes_api(tmp_path) as cluster:
        yield Home(cluster, tmp_path / "sa")


async def kept(lock: KubernetesLock, time: Time, seconds: float) -> bool:
    """Whether it is still kept after so long."""
    time.until = time.at + seconds
    try:
        await lock.keep()
    except Stop:
        time.until = float("inf")
        return True
    time.until = float("inf")
    return False


SEEN = Record("b", 10, "t1", "t0", 3)


@pytest.mark.parametrize(
    ("seen", "left"),
    [
        ([(0.0, None)], 0.0),
        ([(0.0, Record("", 10, "t1", "t0", 3))], 0.0),
        ([(0.0, SEEN)], 10.0),
        ([(0.0, SEEN), (9.0, SEEN)], 1.0),
        ([(0.0, SEEN), (60.0, SEEN)], 0.0),
        ([(0.0, SEEN), (9.0, Record("b", 10, "t2", "t0", 3))], 10.0),
        ([(0.0, SEEN), (60.0, Record("b", 10, "t2", "t0", 3))], 10.0),
        ([(0.0, SEEN), (60.0, Record("c", 30, "t1", "t0", 4))], 30.0),
        ([(0.0, SEEN), (4.0, None)], 6.0),
        ([(0.0, SEEN), (11.0, None)], 0.0),
    ],
    ids=[
        "none",
        "released",
        "new",
        "aging",
        "over",
        "renewed",
        "stopped-meanwhile",
        "other",
        "deleted",
        "deleted-over",
    ],
)
def test_how_long_a_lease_still_counts(seen: list[tuple[float, Record | None]], left: float) -> None:
    watched = Watched()
    found = [watched.left(record, at) for at, record in seen]
    assert found[-1] == left


@pytest.mark.parametrize(
    ("spec", "record"),
    [
        (None, Record("", 10, "None", "None", 0)),
        ({"holderIdentity": None, "leaseDurationSeconds": 0}, Record("", 10, "None", "None", 0)),
        (
            {"holderIdentity": "b", "leaseDurationSeconds": 15, "renewTime": "r", "acquireTime": "q"},
            Record("b", 15, "r", "q", 0),
        ),
        ({"leaseDurationSeconds": "x", "leaseTransitions": "y"}, Record("", 10, "None", "None", 0)),
    ],
)
def test_what_a_lease_says(spec: Document | None, record: Record) -> None:
    assert record_of({"spec": spec} if spec is not None else {}) == record


def test_an_identity_is_of_one_process() -> None:
    assert own_identity() != own_identity()


async def test_a_lease_is_made_renewed_and_given_back(home: Home) -> None:
    time = Time()
    lock = home.lock(time)
    assert lock.name == "Lease aisix/agent"
    await lock.acquire()
    made = home.lease["spec"]
    assert made == {
        "holderIdentity": "a",
        "leaseDurationSeconds": 10,
        "acquireTime": "2026-06-15T12:16:40.000000Z",
        "renewTime": "2026-06-15T12:16:40.000000Z",
        "leaseTransitions": 0,
    }
    writes = len(home.cluster.store.log)
    assert await kept(lock, time, 60) and lock.holds()
    assert len(home.cluster.store.log) - writes == 60 / RENEW - 1, "one write each, and nothing is read"
    assert home.lease["spec"] == {**made, "renewTime": "2026-06-15T12:17:37.500000Z"}
    await lock.release()
    assert not lock.holds() and home.holder == ""
    other = home.lock(time, "b")
    before = time.at
    await other.acquire()
    assert time.at == before, "at once"
    assert (home.holder, home.lease["spec"]["leaseTransitions"]) == ("b", 1)
    await lock.release()
    assert home.holder == "b", "what is not ours is not given back"


@pytest.mark.parametrize("crash", [0.0, 0.1, 1.9, 2.4])
async def test_another_takes_over_within_15_seconds_after_a_crash(home: Home, crash: float) -> None:
    """`crash`: seconds after a renewal that the other one has not seen yet."""
    time = Time()
    first, second = home.lock(time), home.lock(time, "b")
    await first.acquire()
    last = time.at
    home.edit(note="x")
    time.at += crash
    await second.acquire()
    assert DURATION <= time.at - last <= 15 and not first.holds() and second.holds()
    assert not await kept(first, time, 60), "the first one was only slow"
    assert home.holder == "b"


async def test_a_lease_that_is_renewed_is_not_taken(home: Home) -> None:
    time = Time(parties=2)
    first, second = home.lock(time), home.lock(time, "b")
    await first.acquire()
    time.until = time.at + 120
    with pytest.raises(ExceptionGroup) as stopped:
        async with asyncio.TaskGroup() as group:
            for waiting in (first.keep(), second.acquire()):
                group.create_task(waiting)
    assert stopped.group_contains(Stop)
    assert home.holder == "a" and not second.holds() and home.lease["spec"]["leaseTransitions"] == 0


@pytest.mark.parametrize("renewed", ["2099-01-01T00:00:00.000000Z", "1970-01-01T00:00:00.000000Z", None])
async def test_times_of_other_clocks_are_not_looked_at(home: Home, renewed: str | None) -> None:
    home.lay(holderIdentity="b", leaseDurationSeconds=10, renewTime=renewed)
    time = Time(wrong=timedelta(days=-400))
    before = time.at
    await home.lock(time).acquire()
    assert time.at - before == DURATION


async def test_the_api_is_away_for_longer_than_a_lease_lasts(home: Home) -> None:
    time = Time()
    lock = home.lock(time)
    await lock.acquire()
    since = time.at
    home.cluster.faults.add(503, times=99)
    with capture_logs() as lines:
        assert not await kept(lock, time, 60)
        assert not lock.holds() and time.at - since == DURATION - MARGIN
        time.events = [(time.at + 30, home.cluster.faults.clear)]
        await lock.acquire()
    assert lock.holds() and home.lease["spec"]["leaseTransitions"] == 0
    assert [line["event"] for line in lines] == [
        "the lead can be neither had nor renewed now",
        "the lead was not renewed in time",
        "the lead can be asked for again",
    ]
    assert "answers 503" in lines[0]["error"]


async def test_the_api_is_away_for_a_moment(home: Home) -> None:
    time = Time()
    lock = home.lock(time)
    await lock.acquire()
    home.cluster.faults.add(503, times=2)
    assert await kept(lock, time, 30) and lock.holds()


async def test_a_right_that_is_missing_is_named_once(home: Home) -> None:
    home.cluster.accounts.forbid(home.account)
    time = Time()
    time.events = [
        (1010.0, lambda: home.cluster.accounts.allow(home.account, "get", "leases", "aisix")),
        (1030.0, lambda: home.cluster.accounts.allow(home.account, "create", "leases", "aisix")),
    ]
    with capture_logs() as lines:
        await home.lock(time).acquire()
    assert 1030 <= time.at <= 1032
    assert len(lines) == 2
    rule = '{apiGroups: ["coordination.k8s.io"], resources: ["leases"], resourceNames: ["agent"], verbs: ["get"]}'
    assert f"may not get leases in namespace aisix (403): its Role needs {rule}" in lines[0]["error"]


class Meddled:
    """The API, where something happens before each of the writes, as long as there are `times`."""

    def __init__(self, api: Objects, meddle: Callable[[], object], times: int = 1, *, after: bool = False) -> None:
        self._api, self.meddle, self.times, self._after = api, meddle, times, after

    def get(self, kind: Kind, at: Place, timeout: float = 5.0) -> Document | None:
        return self._api.get(kind, at, timeout)

    def create(self, kind: Kind, at: Place, document: Document, timeout: float = 5.0) -> Document:
        return self._do(lambda: self._api.create(kind, at, document, timeout))

    def replace(self, kind: Kind, at: Place, document: Document, timeout: float = 5.0) -> Document:
        return self._do(lambda: self._api.replace(kind, at, document, timeout))

    def _do(self, write: Callable[[], Document]) -> Document:
        self.times -= 1
        if self.times < 0:
            return write()
        if self._after:
            write()
        self.meddle()
        return write()


@pytest.mark.parametrize(("storm", "stays"), [(2, True), (5, True), (99, False)])
async def test_others_change_its_labels_all_the_time(home: Home, storm: int, stays: bool) -> None:
    """They never have it: what is lost is lost by time alone."""
    time, number = Time(), iter(range(1000))

    def label() -> None:
        home.cluster.store.patch(KEY, {"metadata": {"labels": {"n": str(next(number))}}}, "somebody")

    meddled = Meddled(home.api, label, 0)
    lock = home.lock(time, objects=meddled)
    await lock.acquire()
    meddled.times = storm
    assert await kept(lock, time, 20) is stays
    assert home.holder == "a" and lock.holds() is stays
    assert home.lease["metadata"]["labels"]


async def test_somebody_else_is_first_in_a_round(home: Home) -> None:
    time = Time()
    home.lay(holderIdentity="", leaseDurationSeconds=10)
    lock = home.lock(time, objects=Meddled(home.api, lambda: home.edit(holderIdentity="b")))
    before = time.at
    await lock.acquire()
    assert time.at - before == RETRY + DURATION


async def test_a_lease_that_somebody_else_has_taken_is_lost_at_once(home: Home) -> None:
    time = Time()
    lock = home.lock(time)
    await lock.acquire()
    home.edit(holderIdentity="b")
    with capture_logs() as lines:
        assert not await kept(lock, time, 60)
    assert time.at == 1000 + RENEW and not lock.holds() and home.holder == "b"
    assert [line["event"] for line in lines] == ["somebody else has the lead now"]


async def test_a_lease_that_was_deleted_is_made_anew_by_whoever_has_it(home: Home) -> None:
    time = Time()
    first, second = home.lock(time), home.lock(time, "b")
    await first.acquire()
    time.until = time.at + 1
    with pytest.raises(Stop):
        await second.acquire()
    home.cluster.store.delete(KEY, {}, "somebody")
    time.until = time.at + RETRY
    with pytest.raises(Stop):
        await second.acquire()
    assert not second.holds(), "who has it may not know yet"
    assert await kept(first, time, 60) and home.holder == "a"
    home.cluster.store.delete(KEY, {}, "somebody")
    before = time.at
    time.until = float("inf")
    await second.acquire()
    assert time.at - before <= DURATION and home.holder == "b"


async def test_a_process_that_was_stopped_has_lost_it(home: Home) -> None:
    """SIGSTOP: the clock went on, and nothing is written any more."""
    time = Time()
    first = home.lock(time)
    await first.acquire()

    def stopped() -> None:
        time.at += 600

    time.events = [(time.at + 4, stopped)]
    writes = len(home.cluster.store.log)
    assert not await kept(first, time, 3600)
    assert not first.holds() and len(home.cluster.store.log) == writes + 1


async def test_a_process_that_was_stopped_while_it_wrote(home: Home) -> None:
    """The write goes out when it runs again: it counts from before the stop, and not at all where another has it."""
    time = Time()

    def stopped() -> None:
        time.at += 600

    meddled = Meddled(home.api, stopped, 0)
    lock = home.lock(time, objects=meddled)
    await lock.acquire()
    meddled.times = 1
    assert not await kept(lock, time, 60) and home.holder == "a"

    await lock.acquire()

    def stopped_and_overtaken() -> None:
        stopped()
        home.edit(holderIdentity="b")

    meddled.meddle, meddled.times = stopped_and_overtaken, 1
    assert not await kept(lock, time, 60) and home.holder == "b"


@pytest.mark.parametrize("there", [True, False])
async def test_an_answer_that_got_lost(home: Home, there: bool) -> None:
    """The Lease is ours and we do not know: the next round finds out."""
    if there:
        home.lay(holderIdentity="", leaseDurationSeconds=10)
    time = Time()
    lock = home.lock(time, objects=Meddled(home.api, lambda: home.cluster.faults.add(cut=True), after=True))
    await lock.acquire()
    assert time.at == 1000 + RETRY and home.holder == "a" and lock.holds()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
async def test_no_two_ever_have_it(home: Home, seed: int) -> None:
    """Three that are stopped at any moment, before and after their writes, and whose API fails."""
    chance = random.Random(seed)

    class Flaky(Meddled):
        def get(self, kind: Kind, at: Place, timeout: float = 5.0) -> Document | None:
            trouble()
            return super().get(kind, at, timeout)

        def _do(self, write: Callable[[], Document]) -> Document:
            trouble()
            done = write()
            trouble()
            return done

    def trouble() -> None:
        what = chance.random()
        if what < 0.1:
            home.cluster.faults.add(503)
        elif what < 0.2:
            time.at += chance.choice((0.5, 2.0, 9.0, 30.0))

    time = Time(parties=3)
    locks = [home.lock(time, name, Flaky(home.api, trouble)) for name in "abc"]
    had: list[str] = []

    async def live(name: str, lock: KubernetesLock) -> None:
        while True:
            await lock.acquire()
            had.append(name)
            await lock.keep()
            if chance.random() < 0.5:
                await time.sleep(15)  # let another have it

    async def watch() -> None:
        while time.at < time.until:
            assert sum(lock.holds() for lock in locks) <= 1
            await asyncio.sleep(0)

    time.until = time.at + 300
    with pytest.raises(ExceptionGroup) as stopped:
        async with asyncio.TaskGroup() as group:
            for task in (watch(), *(live(name, lock) for name, lock in zip("abc", locks, strict=True))):
                group.create_task(task)
    assert stopped.group_contains(Stop) and not stopped.group_contains(AssertionError)
    assert len(had) > 2


class Stuck:
    """An API whose call of that number (0 reads, 1 makes, 2 reads) and all after it wait until they are let go."""

    def __init__(self, number: int) -> None:
        self.reached = threading.Event()
        self.lease: Document | None = None
        self._left = number
        self._go = threading.Event()

    def free(self) -> None:
        self._go.set()

    def get(self, kind: Kind, at: Place, timeout: float = 5.0) -> Document | None:
        self._wait()
        return self.lease

    def create(self, kind: Kind, at: Place, document: Document, timeout: float = 5.0) -> Document:
        self._wait()
        self.lease = document
        return document

    def replace(self, kind: Kind, at: Place, document: Document, timeout: float = 5.0) -> Document:
        return self.create(kind, at, document, timeout)

    def _wait(self) -> None:
        self._left -= 1
        if self._left < 0:
            self.reached.set()
            self._go.wait(20)


@pytest.mark.slow
async def test_an_api_that_hangs_is_left_at_the_deadline() -> None:
    """Slow, for threads wait by the real clock."""
    loop, stuck = asyncio.get_running_loop(), Stuck(1)
    lock = KubernetesLock(stuck, AT, "a")
    acquiring = asyncio.ensure_future(lock.acquire())
    with capture_logs() as lines:
        await asyncio.wait((acquiring,), timeout=3.5)
    assert "gave no answer within 3 s" in lines[0]["error"]
    acquiring.cancel()
    stuck.free()
    stuck = Stuck(2)
    lock = KubernetesLock(stuck, AT, "a")
    await lock.acquire()
    before = loop.time()
    await lock.release()
    assert 1.9 < loop.time() - before < 3 and not lock.holds()
    stuck.free()


async def test_a_write_that_is_under_way_at_the_end_is_given_back() -> None:
    """Who waits for the lead is stopped while its write is out: nobody has to wait for that Lease to run out."""
    stuck = Stuck(1)
    lock = KubernetesLock(stuck, AT, "a")
    acquiring = asyncio.ensure_future(lock.acquire())
    assert await asyncio.to_thread(stuck.reached.wait, 5)
    acquiring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await acquiring
    releasing = asyncio.ensure_future(lock.release())
    await asyncio.sleep(0)
    stuck.free()
    await releasing
    assert stuck.lease is not None and record_of(stuck.lease).holder == ""
