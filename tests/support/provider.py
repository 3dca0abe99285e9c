"""A demo provider: answers as OpenAI does, streams, delays and fails when the last user message asks for it.

Used by tests (in-process, port 0, see `running`), by the end-to-end tests and by `make run`
(`python -m tests.support.provider --port N`). It knows nothing of the gateway.

The last user message steers it with words in double brackets, for example `Hi [[events=20 gap=50 no_usage]]`:

  delay=MS           wait before the response head
  status=N           answer with that error status (`retry_after=TEXT` adds the header, `code=TEXT` the error's code)
  echo_auth          the error's message quotes the Authorization header, as careless providers do
  text=WORD          answer with this word (`size=N`: with N bytes)
  events=N gap=MS    so many content chunks a choice, and the pause before each
  finish=REASON      the finish reason, `stop` if not said
  tool               answer with a tool call
  reasoning          think first, in `reasoning_content`
  logprobs           add log probabilities
  no_usage           report no usage; `usage_on_last`: report it on the finish chunk instead of a chunk of its own
  no_done            end without `[DONE]`
  crlf               frame the stream with CR LF
  abort_after=N      cut the connection after N events (buffered: instead of an answer)
  error_after=N      send an error object after N events, and end
  stall              never send a head; `stall_after=N`: go silent after N events
  html               answer 200 with a web page
"""

import argparse
import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

MODEL_IDS = ("gpt-4o", "gpt-4o-mini", "demo-model")
DIRECTIVES = re.compile(r"\[\[([^\]]*)\]\]")


@dataclass(frozen=True)
class Received:
    """One request as it arrived. Header names are lower-case."""

    method: str
    path: str
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass(frozen=True)
class Steering:
    """What the caller's message asks this provider to do; `words` as in the module's docstring."""

    words: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Steering":
        words: dict[str, str] = {}
        for part in DIRECTIVES.findall(_last_user_text(body)):
            for word in part.split():
                name, _, value = word.partition("=")
                words[name] = value
        return cls(words)

    def __contains__(self, word: str) -> bool:
        return word in self.words

    def number(self, word: str, default: int | None = None) -> int | None:
        return int(self.words[word]) if word in self.words else default

    def seconds(self, word: str) -> float:
        return int(self.words.get(word, "0")) / 1000


def _last_user_text(body: Mapping[str, Any]) -> str:
    for message in reversed(body.get("messages") or []):
        if message.get("role") == "user":
            content = message.get("content") or ""
            return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    return ""


class Answer:
    """The JSON of one answer, buffered or in chunks."""

    def __init__(self, body: Mapping[str, Any], steering: Steering, number: int) -> None:
        self.body = body
        self.steering = steering
        self.choices = body.get("n") or 1
        self.created = int(time.time())
        self.id = f"chatcmpl-demo{number:06d}"
        said = DIRECTIVES.sub("", _last_user_text(body)).strip()
        text = steering.words.get("text") or f"This is the demo provider. You said: {said}"
        size = steering.number("size")
        self.text = text if size is None else ("lorem ipsum " * (size // 12 + 1))[:size]
        self.finish = "tool_calls" if "tool" in steering else steering.words.get("finish", "stop")

    def buffered(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.text, "refusal": None}
        if "reasoning" in self.steering:
            message["reasoning_content"] = "Let me think."
        if "tool" in self.steering:
            message |= {"content": None, "tool_calls": [self._tool_call()]}
        choices = [
            {"index": i, "message": message, "logprobs": self._logprobs("This"), "finish_reason": self.finish}
            for i in range(self.choices)
        ]
        answer = self._head("chat.completion") | {"choices": choices, "system_fingerprint": "fp_demo"}
        return answer if "no_usage" in self.steering else answer | {"usage": self._usage()}

    def chunks(self) -> Iterator[dict[str, Any]]:
        for i in range(self.choices):
            yield self._chunk(i, {"role": "assistant", "content": "", "refusal": None})
        if "reasoning" in self.steering:
            for i in range(self.choices):
                yield self._chunk(i, {"reasoning_content": "Let me think."})
        for delta in self._deltas():
            for i in range(self.choices):
                yield self._chunk(i, delta)
        usage = None if "no_usage" in self.steering else self._usage()
        for i in range(self.choices):
            last = self._chunk(i, {}, finish=self.finish)
            if "usage_on_last" in self.steering and i == self.choices - 1:
                last["usage"], usage = usage, None
            yield last
        if usage and (self.body.get("stream_options") or {}).get("include_usage"):
            yield self._head("chat.completion.chunk") | {"system_fingerprint": "fp_demo", "choices": [], "usage": usage}

    def _deltas(self) -> Iterator[dict[str, Any]]:
        if "tool" in self.steering:
            call = self._tool_call()
            arguments = call["function"].pop("arguments")
            yield {"tool_calls": [{"index": 0} | call | {"function": call["function"] | {"arguments": ""}}]}
            for piece in (arguments[:5], arguments[5:]):
                yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
            return
        words = re.findall(r"\s*\S+|\s+$", self.text)
        events = self.steering.number("events")
        for i in range(len(words) if events is None else events):
            yield {"content": words[i % len(words)] if words else "."}

    def _chunk(self, index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": self._logprobs(delta.get("content")),
            "finish_reason": finish,
        }
        return self._head("chat.completion.chunk") | {"system_fingerprint": "fp_demo", "choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.body.get("model")}

    def _logprobs(self, token: str | None) -> dict[str, Any] | None:
        if not token or "logprobs" not in self.steering:
            return None
        return {"content": [{"token": token, "logprob": -0.1, "bytes": list(token.encode()), "top_logprobs": []}]}

    def _tool_call(self) -> dict[str, Any]:
        function = {"name": "get_weather", "arguments": '{"city":"Paris"}'}
        return {"id": "call_demo", "type": "function", "function": function}

    def _usage(self) -> dict[str, Any]:
        prompt = sum(len(str(m.get("content") or "").split()) + 4 for m in self.body.get("messages") or [])
        completion = len(self.text.split()) * self.choices
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }


def error(status: int, message: str, *, code: Any = None, headers: Mapping[str, str] | None = None) -> web.Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return web.json_response(body, status=status, headers=headers)


class Provider:
    """The server's state: what it received, and how its streams ended."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.open = 0
        """Chat requests being answered now."""
        self.cancelled = 0
        """Chat requests whose client left before the answer was complete."""
        self.port = 0

    @property
    def base(self) -> str:
        """What a provider key's `api_base` should be."""
        return f"http://127.0.0.1:{self.port}/v1"

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        return app

    async def _models(self, request: web.Request) -> web.Response:
        self.requests.append(Received(request.method, request.path_qs, _headers(request), b""))
        data = [{"id": model, "object": "model", "created": 1700000000, "owned_by": "demo"} for model in MODEL_IDS]
        return web.json_response({"object": "list", "data": data})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        received = Received(request.method, request.path_qs, _headers(request), await request.read())
        self.requests.append(received)
        self.open += 1
        try:
            return await self._answer(request, received)
        except (asyncio.CancelledError, ConnectionResetError):
            self.cancelled += 1
            raise
        finally:
            self.open -= 1

    async def _answer(self, request: web.Request, received: Received) -> web.StreamResponse:
        if not received.headers.get("authorization", "").startswith("Bearer "):
            return error(401, "You didn't provide an API key.")
        try:
            body = received.body
        except ValueError:
            return error(400, "We could not parse the JSON body of your request.")
        steering = Steering.of(body)
        if "stall" in steering:
            await asyncio.Event().wait()
        if "delay" in steering:
            await asyncio.sleep(steering.seconds("delay"))
        if status := steering.number("status"):
            return self._failure(status, steering, received)
        if "html" in steering:
            return web.Response(text="<html><body>Welcome</body></html>", content_type="text/html")
        answer = Answer(body, steering, len(self.requests))
        if body.get("stream"):
            return await self._stream(request, answer)
        if "abort_after" in steering:
            _cut(request)
        return web.json_response(answer.buffered())

    def _failure(self, status: int, steering: Steering, received: Received) -> web.Response:
        message = f"The demo provider was asked for a {status}."
        if "echo_auth" in steering:
            message += f" You sent {received.headers['authorization']}."
        headers = {"Retry-After": steering.words["retry_after"]} if "retry_after" in steering else None
        return error(status, message, code=steering.words.get("code"), headers=headers)

    async def _stream(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        steering = answer.steering
        end = "\r\n\r\n" if "crlf" in steering else "\n\n"
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        for sent, chunk in enumerate(answer.chunks()):
            if sent == steering.number("abort_after"):
                _cut(request)
                return response
            if sent == steering.number("stall_after"):
                await asyncio.Event().wait()
            if sent == steering.number("error_after"):
                failure = {"error": {"message": "The demo provider broke down.", "type": "server_error", "code": None}}
                await response.write(f"data: {json.dumps(failure)}{end}".encode())
                return response
            if "gap" in steering:
                await asyncio.sleep(steering.seconds("gap"))
            await response.write(f"data: {json.dumps(chunk, separators=(',', ':'))}{end}".encode())
        if "no_done" not in steering:
            await response.write(f"data: [DONE]{end}".encode())
        return response


def _headers(request: web.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


def _cut(request: web.Request) -> None:
    """Close the connection in the middle of the answer."""
    if request.transport is not None:
        request.transport.close()


@asynccontextmanager
async def running(port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[Provider]:
    """A provider that listens while the context lasts; `port` 0 takes a free one (see `Provider.base`)."""
    provider = Provider()
    runner = web.AppRunner(provider.app(), handler_cancellation=True, shutdown_timeout=0.2, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        provider.port = runner.addresses[0][1]
        yield provider
    finally:
        await runner.cleanup()


async def _serve(port: int) -> None:
    async with running(port) as provider:
        print(f"demo provider on {provider.base}", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="A provider that answers as OpenAI does.")
    parser.add_argument("--port", type=int, default=8000)
    try:
        asyncio.run(_serve(parser.parse_args().port))
    except KeyboardInterrupt:
        pass  # Ctrl-C is how it is stopped


if __name__ == "__main__":
    main()
