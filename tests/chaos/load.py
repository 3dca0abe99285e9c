"""What goes on while parts are killed: callers ask, and somebody changes the Cloud's configuration all the time.

The sleeps are the load's rhythm: nothing is waited for by them.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from tests.chaos.cloud_process import CloudProcess
from tests.support.managed import Managed

CALLERS: Final = 4
PAUSE_SECONDS: Final = 0.1
CHANGE_SECONDS: Final = 0.2
MODELS: Final = 30


@dataclass
class Tally:
    """What the callers saw."""

    accepted: set[str] = field(default_factory=set)
    """Our request ids of the answers that came whole, with 200."""
    other: dict[str, int] = field(default_factory=dict)
    """How the rest ended."""

    def count(self, what: str) -> None:
        self.other[what] = self.other.get(what, 0) + 1


async def call(gateway: Managed, proxy: int, tally: Tally, chance: random.Random) -> None:
    """One request, buffered or streamed."""
    stream = chance.random() < 0.3
    body = {"model": "demo-model", "messages": [{"role": "user", "content": "Hi [[events=3]]"}], "stream": stream}
    headers = {"Authorization": "Bearer sk-managed"}
    url = f"{gateway.proxies[proxy].url}/v1/chat/completions"
    try:
        async with gateway.http.post(url, json=body, headers=headers) as response:
            text = await response.text()
            whole = response.status == 200 and (not stream or text.rstrip().endswith("[DONE]"))
            if whole:
                tally.accepted.add(response.headers["x-aisix-call-id"])
            else:
                tally.count(str(response.status))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        tally.count(type(error).__name__)


async def callers(gateway: Managed, tally: Tally, seed: int) -> None:
    """Ask for ever, some callers at once, each at one proxy after the other."""

    async def one(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        while True:
            await call(gateway, chance.randrange(len(gateway.proxies)), tally, chance)
            await asyncio.sleep(PAUSE_SECONDS * chance.random())

    async with asyncio.TaskGroup() as group:
        for number in range(CALLERS):
            group.create_task(one(number))


async def changes(cloud: CloudProcess, seed: int) -> None:
    """Write, rewrite and delete rows in the Cloud for ever."""
    chance = random.Random(f"{seed} changes")
    serial = 0
    while True:
        serial += 1
        row_id = f"m-{chance.randrange(MODELS):02d}"
        if chance.random() < 0.2:
            await cloud.delete("models", row_id)
        else:
            await cloud.put("models", row_id, model(row_id, serial))
        await asyncio.sleep(CHANGE_SECONDS)


def model(row_id: str, serial: int) -> Mapping[str, Any]:
    """A model whose document tells which writing of it this is."""
    return {
        "display_name": f"model-{row_id}",
        "provider": "openai",
        "model_name": f"gpt-{serial}",
        "provider_key_id": "pk-demo",
    }
