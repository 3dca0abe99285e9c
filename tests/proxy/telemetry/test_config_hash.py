"""The hash follows what is served, and is made only when that changed."""

import asyncio

import pytest

from aisix_common.secrets.envelope import NO_KEYRING
from aisix_common.snapshot import build, config_hash, empty
from aisix_common.tasks import TaskOwner
from aisix_proxy.telemetry.config_hash import INTERVAL_SECONDS, ConfigHash

from tests.common.snapshot.rows import NOON, listing
from tests.common.snapshot.sealed import BOTH, OLD, with_unknown
from tests.support.builders import changed, model, standard, until

SETTLED = INTERVAL_SECONDS + 0.1


@pytest.mark.looptime
async def test_it_follows_what_is_served() -> None:
    first = standard()
    second = changed(first, model("other"))
    served, told = [empty("/aisix")], list[str]()
    fingerprint = ConfigHash(lambda: served[-1], lambda: NO_KEYRING, told.append)
    async with TaskOwner() as tasks:
        tasks.spawn(fingerprint.run(), name="hash")
        await asyncio.sleep(SETTLED)
        assert (fingerprint.value, told) == ("", [])
        for snapshot in (first, first, second):
            served.append(snapshot)
            await until(lambda: fingerprint.value == config_hash(served[-1]), 60)
            await asyncio.sleep(SETTLED)
    assert told == [config_hash(first), config_hash(second)]


@pytest.mark.looptime
async def test_another_keyring_has_it_made_anew() -> None:
    served, told, keyrings = build(listing(with_unknown("k", 1, OLD)), empty("/aisix"), NOON, OLD), list[str](), [OLD]
    fingerprint = ConfigHash(lambda: served, lambda: keyrings[-1], told.append)
    async with TaskOwner() as tasks:
        tasks.spawn(fingerprint.run(), name="hash")
        await until(lambda: fingerprint.value == config_hash(served, OLD), 60)
        keyrings.append(BOTH)
        await asyncio.sleep(SETTLED)
        assert len(told) == 1, "it opens the same"
        keyrings.append(NO_KEYRING)
        await until(lambda: fingerprint.value == config_hash(served), 60)
    assert told == [config_hash(served, OLD), config_hash(served)]
