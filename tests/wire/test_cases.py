"""All wire cases of all providers: what goes out, what comes back, and that no cut of a stream changes it."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pytest

from aisix_proxy.canonical.errors import GatewayError, UpstreamAborted, UpstreamError
from aisix_proxy.canonical.events import (
    ChoiceFinished,
    Event,
    ReasoningProduced,
    StreamEnded,
    StreamFailed,
    TextProduced,
    ToolCallProduced,
    UsageReported,
)
from aisix_proxy.canonical.usage import Usage
from aisix_proxy.dialects import DIALECT

from .cases import BUFFERED, CASES, CREDENTIAL, STREAMS, Case, Context
from .conftest import Golden

DIALECT_OPENAI = DIALECT["openai-chat"]
ESTIMATE = Usage(prompt_tokens=9, completion_tokens=3, total_tokens=12, estimated=True)

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_stream = pytest.mark.parametrize("case", STREAMS, ids=lambda case: case.name)
every_buffered = pytest.mark.parametrize("case", BUFFERED, ids=lambda case: case.name)


def test_there_are_cases() -> None:
    assert len(STREAMS) > 40
    assert len(BUFFERED) > 20


@every_case
def test_request(case: Case, golden: Golden) -> None:
    sent = case.adapter.encode(case.request, case.target, Context())
    assert sent.method == "POST"
    golden(case.path / "expected_upstream.json", sent.body.decode())


@every_stream
def test_stream(case: Case, golden: Golden) -> None:
    golden(case.path / "expected.json", _show(_listen(case, [case.stream])))


@every_stream
def test_no_cut_changes_a_stream(case: Case) -> None:
    stream = case.stream
    whole = _meaning(_listen(case, [stream]))
    for cuts in (_bytewise(stream), _at_frame_ends(stream), _in_pieces(stream, 7), _in_pieces(stream, 333)):
        assert _meaning(_listen(case, cuts)) == whole


@every_stream
def test_decoder_and_relay_hear_the_same(case: Case) -> None:
    events = _events(case, [case.stream])
    relay = DIALECT_OPENAI.relay(case.request, case.target)
    relay.feed(case.stream)
    aborted = _finish(relay.finish) is None
    usages = [event.usage for event in events if isinstance(event, UsageReported)]
    finishes = {event.choice: event.reason for event in events if isinstance(event, ChoiceFinished)}
    failures = [event.error for event in events if isinstance(event, StreamFailed)]
    assert relay.usage == (usages[-1] if usages else None)
    assert relay.finish_reasons == tuple(finishes.values())
    assert [_error(error) for error in failures] == ([_error(relay.failed)] if relay.failed else [])
    assert aborted == any(event == "aborted" for event in _event_names(case, [case.stream]))
    if relay.usage is None:
        assert relay.produced_tokens(len) == len(_text(events))


@every_buffered
def test_buffered(case: Case, golden: Golden) -> None:
    golden(case.path / "expected.json", _show(_answer(case)))


@every_case
def test_no_credential_reaches_the_caller(case: Case) -> None:
    expected = (case.path / "expected.json").read_text()
    assert CREDENTIAL not in expected


def _listen(case: Case, pieces: Iterable[bytes]) -> dict[str, Any]:
    """What the relay made of a stream, and what the decoder heard."""
    pieces = list(pieces)
    relay = DIALECT_OPENAI.relay(case.request, case.target)
    out = b"".join([relay.feed(piece) for piece in pieces])
    rest = _finish(relay.finish)
    return {
        "downstream": (out + (rest or b"")).decode().split("\n"),
        "aborted": rest is None,
        "failed": _error(relay.failed),
        "ended": relay.ended,
        "events_passed": relay.events,
        "finish_reasons": list(relay.finish_reasons),
        "usage": msgspec.to_builtins(relay.usage),
        "characters": relay.produced_tokens(len) if relay.usage is None else None,
        "events": _event_names(case, pieces),
    }


def _meaning(heard: dict[str, Any]) -> dict[str, Any]:
    """`heard` with the caller's events parsed: white space between tokens depends on the way a chunk took."""
    lines = heard["downstream"]
    assert all(line == "" or line.startswith("data: ") for line in lines)
    return heard | {"downstream": [json.loads(line[6:]) if line.startswith("data: {") else line for line in lines]}


def _event_names(case: Case, pieces: Iterable[bytes]) -> list[Any]:
    """The decoder's events in a form that compares and prints; `aborted` where finish raised that."""
    decoder = case.adapter.stream(case.request, case.target)
    events = [event for piece in pieces for event in decoder.feed(piece)]
    rest = _finish(decoder.finish)
    shown: list[Any] = []
    for event in events + (rest or []):
        facts = {"error": _error(event.error)} if isinstance(event, StreamFailed) else msgspec.to_builtins(event)
        shown.append({type(event).__name__: facts})
    return shown if rest is not None else [*shown, "aborted"]


def _events(case: Case, pieces: Iterable[bytes]) -> list[Event]:
    decoder = case.adapter.stream(case.request, case.target)
    events = [event for piece in pieces for event in decoder.feed(piece)]
    events += _finish(decoder.finish) or []
    return [event for event in events if not isinstance(event, StreamEnded)]


def _finish(finish: Any) -> Any:
    """What `finish` returned; None where the answer was cut off."""
    try:
        return finish()
    except UpstreamAborted:
        return None


def _text(events: Iterable[Event]) -> str:
    text = ""
    for event in events:
        if isinstance(event, TextProduced | ReasoningProduced):
            text += event.text
        elif isinstance(event, ToolCallProduced):
            text += (event.name or "") + event.arguments
    return text


def _answer(case: Case) -> dict[str, Any]:
    response = case.response
    if response.status != 200:
        return _failure(case.adapter.error(response, case.target))
    try:
        answer = case.adapter.answer(case.request, response, case.target)
    except UpstreamError as error:
        return _failure(error)
    body = DIALECT_OPENAI.answer(case.request, answer, answer.usage or ESTIMATE)
    told = answer.told()
    return {
        "downstream": body.decode(),
        "id": told.id,
        "model": told.model,
        "text": told.text,
        "finish_reasons": list(told.finish_reasons),
        "usage": msgspec.to_builtins(answer.usage),
    }


def _failure(error: UpstreamError) -> dict[str, Any]:
    body, headers = DIALECT_OPENAI.error(error)
    return {"failed": _error(error), "downstream": body.decode(), "headers": dict(headers)}


def _error(error: GatewayError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    names = ("status", "type", "message", "code", "param", "retry_after", "retryable")
    return {"class": type(error).__name__} | {name: getattr(error, name) for name in names}


def _show(facts: dict[str, Any]) -> str:
    return json.dumps(facts, indent=2, ensure_ascii=True) + "\n"


def _bytewise(stream: bytes) -> Iterator[bytes]:
    return (stream[i : i + 1] for i in range(len(stream)))


def _in_pieces(stream: bytes, size: int) -> Iterator[bytes]:
    return (stream[i : i + size] for i in range(0, len(stream), size))


def _at_frame_ends(stream: bytes) -> list[bytes]:
    return re.findall(rb".*?(?:\r\n\r\n|\n\n|\r\r|\Z)", stream, re.DOTALL)
