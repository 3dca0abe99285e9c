"""`aisix secrets reencrypt`: all rows under the first key, whatever happens meanwhile, and nothing lost."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from aisix_common.cli.reencrypt import Disagreed, Outcome, Progress, Reencryption, told
from aisix_common.cli.stored import settings_of
from aisix_common.resources import BY_NAME
from aisix_common.secrets.canary import canary_of, canary_row
from aisix_common.secrets.census import look
from aisix_common.secrets.envelope import Keyring
from aisix_common.secrets.rows import context
from aisix_common.store.client import EtcdClient
from aisix_common.tasks import TaskOwner

from tests.common.cli.conftest import command
from tests.common.cli.stored_rows import SECRET, Stored
from tests.support.etcd import EtcdServer


@pytest.fixture
def stored(tmp_path: Path, etcd: EtcdServer, etcd_prefix: str) -> Stored:
    return Stored(tmp_path, etcd, etcd_prefix)


def quiet(write: Callable[[str], object] = lambda line: None) -> Progress:
    return Progress(write, tty=False, monotonic=lambda: 0.0)


class Writer:
    """Another writer, with the same keyring or an older one: rewrites rows all the time, each with a higher number."""

    def __init__(self, stored: Stored, client: EtcdClient, *ids: str) -> None:
        self._stored = stored
        self._client = client
        self._ids = ids
        self.written: dict[str, int] = {}
        self.rounds = 0

    async def run(self) -> None:
        """Until cancelled: a moment between two writes, as people are no loops."""
        number = 0
        while True:
            number += 1
            id = f"r{number * 7 % 200}"
            key, value = self._stored.row(id, *self._ids, telemetry_tags={"note": str(number)}, number=number)
            await self._client.put(key, value)
            self.written[key] = number
            await asyncio.sleep(0.002)


async def test_interrupted_beside_a_writer_and_run_again(stored: Stored) -> None:
    """200 rows under k1; the first run is cut off after some of them, the second one does the rest."""
    config = stored.config("k2", "k1")
    ring = stored.keyring("k2", "k1")
    etcd = settings_of(config, {}).etcd
    async with stored.client() as client, TaskOwner() as owner:
        for key, value in [stored.row(f"r{number}", "k1") for number in range(200)]:
            await client.put(key, value)
        await client.put(stored.canary, canary_row(stored.keyring("k1")))
        writer = Writer(stored, client, "k2", "k1")
        writing = owner.spawn(writer.run(), name="writer")
        cut = asyncio.Event()
        first = owner.spawn(Reencryption(client, etcd, ring, quiet(lambda line: cut.set())).run(), name="first")
        await cut.wait()
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        assert 0 < len([key for key in await under(stored, client) if key == "k1"]) < 200
        run = await asyncio.to_thread(command, "secrets", "reencrypt", "--config", config)
        assert run.returncode == 0, run.stderr
        assert run.stderr.splitlines()[-1] == (
            "no longer used, and may be removed from secrets.keyring of every service: k1"
        )
        assert "of 200 row(s), 50 %" in run.stderr
        writing.cancel()
        await asyncio.wait([writing])
        rows = await stored.rows(client)
        assert await under(stored, client) == ["k2"] * 200
        assert canary_of(rows[stored.canary].value) == "k2"
        assert writer.written
        for key, number in writer.written.items():
            assert json.loads(rows[key].value)["number"] >= number
    # the first key is gone: everything opens with the second alone
    alone = await asyncio.to_thread(command, "secrets", "status", "--config", stored.config("k2"))
    assert alone.returncode == 0, alone.stdout
    assert "encrypted with k2: 200 in 200 row(s)" in alone.stdout


async def under(stored: Stored, client: EtcdClient) -> list[str]:
    """The key of each provider key's secret."""
    rows = (await client.range(f"{stored.root}/provider_keys/")).rows
    return [json.loads(row.value)["api_key"].split(":")[2] for row in rows]


async def test_what_it_does_with_each_row(stored: Stored) -> None:
    mine = stored.keyring("k2")
    rows = dict(
        [
            stored.row("clear", unknown=[1.0], request={"default_headers": {"x": SECRET, "r": "$env://A"}}),
            stored.row("old", "k1"),
            stored.row("new", "k2"),
            stored.row("lost", "gone"),
            stored.row("v", "k1", kind="secret_providers"),
            (f"{stored.root}/models/m", b"{}"),
            (f"{stored.root}/made_up/x", b'{"secret": "theirs"}'),
        ]
    )
    async with stored.client() as client:
        for key, value in rows.items():
            await client.put(key, value)
        run = await asyncio.to_thread(command, "secrets", "reencrypt", "-c", stored.config("k2", "k1"))
        after = await stored.rows(client)
    assert run.returncode == 1
    assert "encrypted anew: 3 row(s); 5 secret(s) are under k2" in run.stderr
    assert "2 row(s) were left as they are:" in run.stderr
    assert f'{stored.root}/provider_keys/lost: /api_key is encrypted with key "gone"' in run.stderr
    assert f"{stored.root}/models/m: schema validation failed" in run.stderr
    assert "cannot be told" in run.stderr
    assert SECRET not in run.stderr + run.stdout
    clear = json.loads(after[f"{stored.root}/provider_keys/clear"].value)
    assert list(clear) == ["display_name", "api_key", "unknown", "request"]
    assert (clear["unknown"], clear["request"]["default_headers"]["r"]) == ([1.0], "$env://A")
    assert mine.open(clear["api_key"], context("provider_keys", "clear", ("api_key",))) == SECRET
    for name in ("provider_keys/new", "provider_keys/lost", "models/m", "made_up/x"):
        assert after[f"{stored.root}/{name}"].value == rows[f"{stored.root}/{name}"]
        assert after[f"{stored.root}/{name}"].version == 1
    provider = after[f"/ext{stored.root}/secret_providers/v"].value
    assert look(BY_NAME["secret_providers"], "v", provider, mine).keys == ("k2",)
    assert canary_of(after[stored.canary].value) == "k2"


async def test_another_keyring_writes_nothing(stored: Stored) -> None:
    async with stored.client() as client:
        key, value = stored.row("a")
        await client.put(key, value)
        await client.put(stored.canary, canary_row(stored.keyring("k1")))
        before = await stored.rows(client)
        for ids, said in ((("k2",), '"k1", which is not in this service'), ((), "secrets.keyring: must name")):
            run = await asyncio.to_thread(command, "secrets", "reencrypt", "-c", stored.config(*ids))
            assert run.returncode == 1
            assert said in run.stderr
        assert await stored.rows(client) == before


async def test_a_keyring_that_is_changed_meanwhile_stops_it(stored: Stored) -> None:
    """Between two rows somebody else makes another keyring the one of this etcd."""
    ring, other = stored.keyring("k2", "k1"), stored.keyring("k9")
    etcd = settings_of(stored.config("k2", "k1"), {}).etcd
    async with stored.client() as client, stored.client() as another:
        for key, value in [stored.row(f"r{number}", "k1") for number in range(40)]:
            await client.put(key, value)
        usurped: list[asyncio.Task[int]] = []
        async with TaskOwner() as owner:

            def usurp(line: str) -> None:
                if not usurped:
                    usurped.append(owner.spawn(another.put(stored.canary, canary_row(other)), name="usurp"))

            with pytest.raises(Disagreed, match=r'"k9", which is not in this service'):
                await Reencryption(client, etcd, ring, quiet(usurp)).run()
        revision = usurped[0].result()
        rows = await stored.rows(client)
    assert canary_of(rows[stored.canary].value) == "k9"
    assert all(row.mod_revision <= revision for row in rows.values())


class Relapsing(Progress):
    """Before each look at the rows, somebody with an older keyring has written one of them."""

    def __init__(self, relapse: Callable[[], None]) -> None:
        super().__init__(lambda line: None, tty=False, monotonic=lambda: 0.0)
        self._relapse = relapse

    def step(self) -> None:
        super().step()
        self._relapse()


async def test_a_writer_with_an_older_keyring_is_told_of(stored: Stored) -> None:
    config = stored.config("k2", "k1")
    key, value = stored.row("a", "k1")

    def relapse() -> None:
        stored.etcd.ctl("put", key, value.decode())  # blocks the loop: it is written before anything else happens

    async with stored.client() as client:
        await client.put(key, value)
        ring = stored.keyring("k2", "k1")
        outcome = await Reencryption(client, settings_of(config, {}).etcd, ring, Relapsing(relapse)).run()
    assert (outcome.settled, outcome.changed) == (False, 5)
    assert "restart it, and run this again" in list(told(outcome, ring))[-1]


async def test_a_writer_with_an_older_keyring_alone_is_stopped_before_the_last_look(stored: Stored) -> None:
    """It writes as long as the canary lets it: here after the look that found nothing left to do."""
    config = stored.config("k2", "k1")
    key, value = stored.row("a", "k1")
    looks = 0

    def relapse() -> None:
        nonlocal looks
        looks += 1
        canary = stored.etcd.ctl("get", stored.canary, "--print-value-only").strip().encode()
        if looks == 2 and canary_of(canary) == "k1":
            stored.etcd.ctl("put", key, value.decode())

    async with stored.client() as client:
        await client.put(key, value)
        await client.put(stored.canary, canary_row(stored.keyring("k1")))
        ring = stored.keyring("k2", "k1")
        outcome = await Reencryption(client, settings_of(config, {}).etcd, ring, Relapsing(relapse)).run()
        assert await under(stored, client) == ["k2"]
    assert (outcome.settled, outcome.changed) == (True, 2)
    assert list(told(outcome, ring))[-1].endswith(": k1")


@pytest.mark.parametrize(
    ("outcome", "last"),
    [
        (Outcome(settled=True), "no longer used, and may be removed from secrets.keyring of every service: k1, k0"),
        (
            Outcome(settled=True, keys=Counter(k1=1)),
            "no longer used, and may be removed from secrets.keyring of every service: k0",
        ),
        (Outcome(settled=True, blind=True), "which keys are no longer used cannot be told: some rows cannot be read"),
    ],
)
def test_what_may_be_removed(outcome: Outcome, last: str) -> None:
    ring = Keyring([(id, id.encode() * 16) for id in ("k2", "k1", "k0")])
    assert list(told(outcome, ring))[-1] == last


def test_progress() -> None:
    lines: list[str] = []
    now = 0.0
    terminal = Progress(lines.append, tty=True, monotonic=lambda: now)
    terminal.begin(100)
    for step in range(100):
        now = step * 0.1
        terminal.step()
    assert lines[:2] == ["11 of 100 row(s), 11 %\n", "21 of 100 row(s), 21 %\n"]
    assert len(lines) == 9
    lines.clear()
    log = Progress(lines.append, tty=False, monotonic=lambda: now)
    log.begin(1000)
    for _ in range(1000):
        log.step()
    assert len(lines) == 20
    assert lines[-1] == "1000 of 1000 row(s), 100 %\n"
