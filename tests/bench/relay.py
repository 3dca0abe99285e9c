"""The yardstick: a bare relay of aiohttp.web in front and aiohttp.ClientSession behind, nothing more than needed.

Key lookup, JSON parsed, model replaced, a counter; uvloop, access log off.
Run: python -m tests.bench.relay PORT UPSTREAM_PORT
"""

import asyncio
import hashlib
import sys
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import orjson
import uvloop
from aiohttp import web

KEYS: Final = {hashlib.sha256(b"sk-bench").hexdigest(): frozenset({"bench-model"})}
SESSION: Final = web.AppKey("session", aiohttp.ClientSession)
COUNTS: Final = web.AppKey("counts", Counter)
NOT_COPIED: Final = {"content-length", "transfer-encoding", "connection", "keep-alive", "date", "server"}


class Relay:
    """The one handler."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream

    async def chat(self, request: web.Request) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        allowed = KEYS.get(hashlib.sha256(given.encode()).hexdigest())
        if allowed is None:
            return web.json_response({"error": {"message": "no such key"}}, status=401)
        body: dict[str, Any] = orjson.loads(await request.read())
        if body.get("model") not in allowed:
            return web.json_response({"error": {"message": "no such model"}}, status=404)
        body["model"] = "mock-model"
        headers = {"Authorization": "Bearer sk-upstream", "Content-Type": "application/json"}
        async with request.app[SESSION].post(self._upstream, data=orjson.dumps(body), headers=headers) as upstream:
            request.app[COUNTS]["requests"] += 1
            if not body.get("stream"):
                kept = {k: v for k, v in upstream.headers.items() if k.lower() not in NOT_COPIED}
                return web.Response(body=await upstream.read(), status=upstream.status, headers=kept)
            response = web.StreamResponse(status=upstream.status, headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            async for data in upstream.content.iter_any():
                await response.write(data)
            await response.write_eof()
            return response


async def session(app: web.Application) -> AsyncIterator[None]:
    connector = aiohttp.TCPConnector(limit=2000)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=300)) as opened:
        app[SESSION] = opened
        yield


async def serve(port: int, upstream_port: int) -> None:
    app = web.Application(client_max_size=64 << 20)
    app[COUNTS] = Counter()
    app.cleanup_ctx.append(session)
    app.router.add_post("/v1/chat/completions", Relay(f"http://127.0.0.1:{upstream_port}/v1/chat/completions").chat)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
