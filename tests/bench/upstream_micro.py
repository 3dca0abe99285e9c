"""CPU of one upstream call: our client beside aiohttp's, one loopback connection, uvloop, rounds interleaved.

    .venv/bin/python -m tests.bench.upstream_micro [--calls 5000] [--rounds 7]

The server is a process of its own, so its time does not count. Prints a table of medians and one JSON line. Only the
ratio of the two columns means anything on a shared machine.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import cast

import aiohttp
import uvloop

from aisix_common.settings import Upstream
from aisix_proxy.canonical.http import Origin, UpstreamRequest
from aisix_proxy.upstream.client import UpstreamClient

QUESTION = b'{"model":"gpt-4o","messages":[{"role":"user","content":"' + b"x" * 150 + b'"}]}'
ANSWERS = {"241 B": 241, "64 KB": 65536}
EVENT = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'
EVENTS = 200
HEADERS = (
    ("content-type", "application/json"),
    ("authorization", "Bearer sk-not-a-key"),
    ("user-agent", "aisix/0.1"),
    ("x-aisix-request-id", "0123456789abcdef"),
)


class Mock(asyncio.Protocol):
    """Answers `/<n>` with n bytes and `/stream` with events, each in a write of its own."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return
        self.buffer = b""
        path = head.split(b" ", 2)[1]
        if path == b"/stream":
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            self._event(EVENTS)
            return
        size = int(path[1:])
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: r\r\nContent-Length: %d\r\n\r\n" % size
            + b"x" * size
        )

    def _event(self, left: int) -> None:
        if left:
            self.transport.write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
            asyncio.get_running_loop().call_soon(self._event, left - 1)
        else:
            self.transport.write(b"0\r\n\r\n")


def serve(pipe: Connection) -> None:
    """The server process: says its port and runs until it is terminated."""

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Mock, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


Call = Callable[[], Awaitable[int]]


async def cost(call: Call, count: int, expected: int) -> float:
    """CPU microseconds of this process for one call."""
    for _ in range(max(1, count // 10)):
        await call()
    begun = time.process_time()
    for _ in range(count):
        assert await call() == expected
    return (time.process_time() - begun) / count * 1e6


async def measure(port: int, calls: int, rounds: int) -> dict[str, dict[str, float]]:
    ours = UpstreamClient(Upstream())
    theirs = aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
    origin = Origin("http", "127.0.0.1", port)

    def buffered(size: int) -> dict[str, Call]:
        request = UpstreamRequest(origin, "POST", f"/{size}", HEADERS, QUESTION)

        async def our() -> int:
            return len((await ours.send(request, timeout=6000, max_body=1 << 20)).body)

        async def their() -> int:
            async with theirs.post(f"http://127.0.0.1:{port}/{size}", data=QUESTION, headers=HEADERS) as response:
                return len(await response.read())

        return {"ours": our, "aiohttp": their}

    request = UpstreamRequest(origin, "POST", "/stream", HEADERS, QUESTION)

    async def our_stream() -> int:
        stream = await ours.open(request, timeout=6000)
        total = 0
        while data := await stream.read(6000):
            total += len(data)
        return total

    async def their_stream() -> int:
        async with theirs.post(f"http://127.0.0.1:{port}/stream", data=QUESTION, headers=HEADERS) as response:
            return sum([len(data) async for data in response.content.iter_any()])

    plan = [(name, buffered(size), calls, size, 1) for name, size in ANSWERS.items()]
    plan.append(
        ("stream event", {"ours": our_stream, "aiohttp": their_stream}, calls // 50, EVENTS * len(EVENT), EVENTS)
    )
    result: dict[str, dict[str, float]] = {}
    for name, sides, count, expected, parts in plan:
        figures: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, call in sides.items():
                figures[side].append(await cost(call, count, expected) / parts)
        result[name] = {side: round(statistics.median(values), 2) for side, values in figures.items()}
        result[name]["ratio"] = round(result[name]["ours"] / result[name]["aiohttp"], 3)
    await ours.aclose()
    await theirs.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    try:
        result = uvloop.run(measure(here.recv(), arguments.calls, arguments.rounds))
    finally:
        server.terminate()
        server.join(5)
    print(f"{'CPU us':<14}{'ours':>9}{'aiohttp':>9}{'ratio':>8}")
    for name, row in result.items():
        print(f"{name:<14}{row['ours']:>9}{row['aiohttp']:>9}{row['ratio']:>8}")
    print(json.dumps({"bench": "upstream_micro", "cores": os.cpu_count(), **result}))


if __name__ == "__main__":
    main()
