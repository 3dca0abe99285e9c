"""The relay under any cut and any bytes, and what the fast ways may do; usual streams stand in tests/wire."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_proxy.canonical.errors import UpstreamAborted, UpstreamProtocol
from aisix_proxy.canonical.request import Request
from aisix_proxy.dialects.openai_chat import OpenAIChat
from aisix_proxy.dialects.openai_relay import END, EVENT_LIMIT, OpenAIRelay, model_head
from aisix_proxy.wire.members import read_members

from tests.wire.cases import STREAMS, make_target

SEEDS = [case.stream for case in STREAMS]


def ask(model: str = "alias") -> Request:
    return OpenAIChat().read(b'{"model":"%s","stream":true,"messages":[{"role":"user"}]}' % model.encode())


def relay() -> OpenAIRelay:
    return OpenAIRelay(ask(), make_target())


def chunk(content: str, finish: str = "null", model: str = "up") -> bytes:
    text = json.dumps(content, ensure_ascii=False)
    return (
        f'data: {{"id":"c1","object":"chat.completion.chunk","created":17,"model":"{model}","choices":'
        f'[{{"index":0,"delta":{{"content":{text}}},"finish_reason":{finish}}}]}}\n\n'
    ).encode()


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


def run(pieces: Sequence[bytes]) -> tuple[list[object], object]:
    """The caller's events, parsed, and what the relay knows at the end."""
    stream = relay()
    out = b"".join([stream.feed(piece) for piece in pieces])
    try:
        out += stream.finish()
        end = "ended"
    except UpstreamAborted:
        end = "aborted"
    frames = out.decode(errors="surrogateescape").split("\n\n")
    assert frames.pop() == ""
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    events = [frame if frame == "data: [DONE]" else json.loads(frame[6:]) for frame in frames]
    return events, (end, repr(stream.failed), stream.usage, stream.finish_reasons, stream.events)


@given(st.sampled_from(SEEDS), st.lists(st.integers(0)))
def test_cuts_change_nothing(seed: bytes, places: list[int]) -> None:
    assert run(cut(seed, places)) == run([seed])


@given(st.lists(st.text()), st.lists(st.integers(0)))
def test_any_text_passes_under_the_alias(texts: list[str], places: list[int]) -> None:
    stream = b"".join(map(chunk, texts)) + chunk("", '"stop"') + END
    events, _ = run(cut(stream, places))
    expected = (b"".join(chunk(text, model="alias") for text in texts) + chunk("", '"stop"', "alias")).decode()
    assert events == [json.loads(frame[6:]) for frame in expected.split("\n\n")[:-1]] + ["data: [DONE]"]


@given(st.lists(st.text()))
def test_all_text_is_counted(texts: list[str]) -> None:
    stream = relay()
    for text in texts:
        stream.feed(chunk(text))
    assert stream.produced_tokens(len) == sum(map(len, texts))
    assert stream.events == len(texts)


@given(st.lists(st.binary()))
def test_any_bytes(pieces: list[bytes]) -> None:
    stream = relay()
    for piece in pieces:
        stream.feed(piece)
    try:
        stream.finish()
    except UpstreamAborted:
        pass
    stream.produced_tokens(len)


@given(st.sampled_from(SEEDS), st.lists(st.integers(0)), st.integers(0), st.binary(max_size=3))
def test_damaged_streams(seed: bytes, places: list[int], place: int, damage: bytes) -> None:
    stream = relay()
    at = place % (len(seed) + 1)
    for piece in cut(seed[:at] + damage + seed[at + len(damage) :], places):
        stream.feed(piece)
    try:
        stream.finish()
    except UpstreamAborted:
        pass
    stream.produced_tokens(len)


class Watched(OpenAIRelay):
    """Counts how often frames are taken apart."""

    parsed = 0

    def _take_apart(self, frames: bytes) -> bytes:
        self.parsed += 1
        return super()._take_apart(frames)


def test_the_usual_chunk_is_not_parsed() -> None:
    stream = Watched(ask(), make_target())
    stream.feed(chunk("one") + chunk("two"))
    stream.feed(chunk("three"))
    assert stream.parsed == 1
    assert stream.feed(chunk("four")) == chunk("four", model="alias")
    assert stream.feed(chunk("five") * 3) == chunk("five", model="alias") * 3
    assert stream.feed(chunk('"six"')) == chunk('"six"', model="alias")
    assert stream.parsed == 1
    stream.feed(chunk("", '"stop"'))
    assert stream.parsed == 2


def test_a_burst_is_looked_into_where_it_is_odd_and_nowhere_else() -> None:
    texts = [f"word {number} " * 5 for number in range(300)]
    plain = [chunk(text) for text in texts]
    burst = [*plain[:100], chunk("", '"stop"'), *plain[100:200], chunk('he said "so"'), chunk("a\nb"), *plain[200:]]
    stream, slow = Watched(ask(), make_target()), relay()
    out = stream.feed(b"".join(burst) + END)
    assert out == b"".join(slow.feed(frame) for frame in [*burst, END])
    assert stream.parsed == 3  # the first, the one with a reason, the end
    assert (stream.events, stream.finish_reasons, stream.ended) == (slow.events, ("stop",), True)
    assert stream.produced_tokens(len) == slow.produced_tokens(len)


@pytest.mark.parametrize(
    "frame",
    [
        b'data: {"choices":[{"delta":{"content":"%s"}}],"model":"up"}\n\n',
        b'data:{"choices":[{"delta":{"content":"%s"}}],"model":"up"}\n\n',
        b'data: {"model":"up","choices":[{"delta":{"content":"%s"}}]}\r\n\r\n',
        b'data:{"model": "up","choices":[{"delta":{"content": "%s"}}]}\n\n',
        b'data: {"meta":{"model":"up"},"model":"up","choices":[{"delta":{"content":"%s"}}]}\n\n',
    ],
)
def test_other_habits_of_providers_are_learnt(frame: bytes) -> None:
    stream = Watched(ask(), make_target())
    for _ in range(3):
        stream.feed(frame % b"x")
    parsed = stream.parsed
    for text in (b"one", b"t\\nwo", b""):
        out = stream.feed(frame % text + frame % text)
        assert out.startswith(b"data: {")
        assert out.endswith(b"}\n\n")
        assert b"\r" not in out
        events = [json.loads(event[6:]) for event in out.split(b"\n\n")[:-1]]
        assert [event["model"] for event in events] == ["alias", "alias"]
        assert [event["choices"][0]["delta"]["content"].encode() for event in events] == [
            text.replace(b"\\n", b"\n")
        ] * 2
    nested = b'"meta"' in frame
    assert (stream.parsed == parsed) is not nested


def test_more_between_head_and_tail_than_text_is_looked_at() -> None:
    stream = relay()
    for text in ("a", "b", "c"):
        stream.feed(chunk(text))
    two = chunk("d").replace(b'"d"', b'"d"},"finish_reason":"stop"},{"index":1,"delta":{"content":"e"')
    stream.feed(two)
    assert stream.finish_reasons == ("stop",)
    assert stream.produced_tokens(len) == 5


def test_a_chunk_that_needs_a_look_teaches_no_short_cut() -> None:
    stream = relay()
    for _ in range(5):
        out = stream.feed(b'data: {"choices":[{"delta":{"content":"x","reasoning":"Hm"}}],"model":"up"}\n\n')
        assert b'"reasoning_content":"Hm"' in out


def test_half_a_frame_waits() -> None:
    stream = relay()
    assert stream.feed(chunk("one")) == chunk("one", model="alias")
    assert stream.feed(chunk("two") + chunk("three")[:50]) == chunk("two", model="alias")
    assert stream.feed(chunk("three")[50:-1]) == b""
    assert stream.feed(b"\n") == chunk("three", model="alias")


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 65530, b"data: x\n" * 8192])
def test_an_endless_event(piece: bytes) -> None:
    stream = relay()
    for _ in range(EVENT_LIMIT // len(piece) + 2):
        assert stream.feed(piece) == b""
    assert isinstance(stream.failed, UpstreamProtocol)
    assert stream.feed(chunk("late")) == b""
    assert stream.finish() == b""


def test_a_model_that_is_changed_in_the_middle_is_still_the_alias() -> None:
    stream = relay()
    out = stream.feed(chunk("a") + chunk("b")) + stream.feed(chunk("c", model="other")) + stream.feed(chunk("d"))
    assert out == b"".join(chunk(text, model="alias") for text in "abcd")


def test_where_a_model_stands() -> None:
    def head(data: bytes) -> bytes:
        return model_head(data, read_members(data))

    assert head(b'{"id":"x","model":"m","choices":[]}') == b'{"id":"x","model":"m"'
    assert head(b'{"id":"x", "model": "m"}') == b'{"id":"x", "model": "m"'
    assert head(b'{"a":{"model":"m"},"model":"m"}') == b""
    assert head(b'{"model":"m","model":"m"}') == b""
    assert head(b'{"model":"m","\\u006dodel":"m"}') == b""
    assert head(b'{"model":null}') == b""
    assert head(b'{"id":"x"}') == b""
