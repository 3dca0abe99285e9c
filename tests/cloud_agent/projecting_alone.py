"""A process that projects once and says what it took: one JSON line with seconds, transactions, rows written, memory
and the longest time for which the loop stood still. Its arguments are one JSON object."""

import asyncio
import gc
import json
import re
import sys
import time
from pathlib import Path

import aisix_cloud_agent.app  # noqa: F401 - what an agent has in memory besides
from aisix_cloud_agent.cloud.link import Link
from aisix_cloud_agent.lead.lead import Lead
from aisix_cloud_agent.projection.layout import Layout
from aisix_cloud_agent.projection.projector import Projector
from aisix_common.clock import SYSTEM_CLOCK
from aisix_common.logs import get_logger
from aisix_common.managed.projected import epoch_key
from aisix_common.metrics import Metrics
from aisix_common.secrets.envelope import Keyring
from aisix_common.settings.control import Managed
from aisix_common.store.client import EtcdClient, EtcdOptions
from aisix_common.store.options import TlsMaterial
from aisix_common.tasks import TaskOwner

from tests.cloud_agent.gateways import LocalClient, SessionOfEtcd

KEYRING = Keyring([("k1", b"1" * 32)])


def peak_mb() -> float:
    """The most memory this process has had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


async def longest_stop(until: asyncio.Event) -> float:
    """The longest time for which this process kept its loop from everything else; what others took of the processor
    does not count."""
    longest = 0.0
    while not until.is_set():
        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(0.005)
        longest = max(longest, min(time.perf_counter() - wall, time.process_time() - cpu) - 0.005)
    return longest


async def main(given: dict[str, str]) -> None:
    """Project, and say so."""
    before_mb = peak_mb()
    material = TlsMaterial(
        ca=given["ca"].encode(), certificate=given["certificate"].encode(), key=given["key"].encode()
    )
    etcd = EtcdClient(EtcdOptions(endpoints=(f"https://{given['cloud']}",), tls=material))
    local = LocalClient(EtcdOptions(endpoints=(given["local"],)))
    root = given["root"]
    layout = Layout(given["env_id"], f"{root}/aisix", f"{root}/ext/aisix", f"{root}/run/aisix")
    lead = Lead(await local.put(epoch_key(layout.run), b"alone"), lambda: True)
    link = Link()
    link.use(SessionOfEtcd(layout.env_id, etcd))
    projector = Projector(
        local,
        layout,
        lambda: KEYRING,
        Managed(),
        allow_plaintext=False,
        clock=SYSTEM_CLOCK,
        log=get_logger("alone"),
        metrics=Metrics(),
    )
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)  # as `aisix_common.service.run` does
    begun, done = time.perf_counter(), asyncio.Event()
    async with TaskOwner() as tasks:
        stopped = tasks.spawn(longest_stop(done), name="stop watch")
        tasks.spawn(projector.run(link, lead), name="projector")
        while projector.status().cloud_revision < int(given["revision"]):
            await asyncio.sleep(0.02)
        seconds = time.perf_counter() - begun
        done.set()
        told = {
            "seconds": seconds,
            "transactions": len(local.transactions),
            "written": local.written,
            "rows": projector.status().rows,
            "before_mb": before_mb,
            "peak_mb": peak_mb(),
            "stopped": await stopped,
        }
    sys.stdout.write("\n" + json.dumps(told) + "\n")


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
