"""A fast OpenAI-compatible upstream for measuring: raw protocol, fixed answers, no JSON.

Steered by the last text of the body: `[[gap=20 events=50]]` streams that many events with that many milliseconds
between them (0: as fast as they go), with jitter so that streams are not in step.
Run: python -m tests.bench.upstream PORT
"""

import asyncio
import random
import re
import sys
from typing import cast

import uvloop

STEER = re.compile(rb"\[\[gap=(\d+) events=(\d+)\]\]")
ANSWER = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"mock-model","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"A gateway stands between callers and model providers and keeps order."},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":24,"completion_tokens":12,"total_tokens":36}}'
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
BUFFERED = HEAD % len(ANSWER) + ANSWER
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PREFIX = b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"mock-model",'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


EVENT = chunk(PREFIX + b'"choices":[{"index":0,"delta":{"content":" gateway"},"finish_reason":null}]}\n\n')
LAST = chunk(
    PREFIX
    + b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    + PREFIX
    + b'"choices":[],"usage":{"prompt_tokens":24,"completion_tokens":50,"total_tokens":74}}\n\ndata: [DONE]\n\n'
)
END = b"0\r\n\r\n"


class Upstream(asyncio.Protocol):
    """One connection, one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._buffer = bytearray()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (head_end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:head_end]).lower()
            length = re.search(rb"content-length: *(\d+)", head)
            end = head_end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[head_end + 4 : end])
            del self._buffer[:end]
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        steer = STEER.search(body)
        if steer is None:
            self._transport.write(BUFFERED)
            return
        gap, events = int(steer[1]) / 1000, int(steer[2])
        if gap == 0:
            self._transport.write(STREAM_HEAD + EVENT * events + LAST + END)
            return
        self._transport.write(STREAM_HEAD)
        asyncio.get_running_loop().call_later(gap * random.random(), self._next, gap, events)

    def _next(self, gap: float, left: int) -> None:
        if self._transport.is_closing():
            return
        if left == 0:
            self._transport.write(LAST + END)
            return
        self._transport.write(EVENT)
        asyncio.get_running_loop().call_later(gap * (0.5 + random.random()), self._next, gap, left - 1)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=4096)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
