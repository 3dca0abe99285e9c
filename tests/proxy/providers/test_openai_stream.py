"""The stream decoder, whatever comes; what usual streams say stands in tests/wire."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_proxy.canonical.errors import UpstreamAborted, UpstreamProtocol
from aisix_proxy.canonical.events import Event, StreamEnded, StreamFailed
from aisix_proxy.providers.openai_stream import EVENT_LIMIT, OpenAIStream

from tests.wire.cases import STREAMS, make_target

SEEDS = [case.stream for case in STREAMS]


def feed(pieces: Sequence[bytes]) -> list[Event]:
    stream = OpenAIStream(make_target())
    return [event for piece in pieces for event in stream.feed(piece)]


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


@given(st.lists(st.binary()))
def test_any_bytes(pieces: list[bytes]) -> None:
    stream = OpenAIStream(make_target())
    for piece in pieces:
        stream.feed(piece)
    with pytest.raises(UpstreamAborted):
        stream.finish()
        raise UpstreamAborted  # garbage may also have failed before, and then finish says nothing more


@given(st.sampled_from(SEEDS), st.lists(st.integers(0)), st.integers(0), st.binary(max_size=3))
def test_damaged_streams(seed: bytes, places: list[int], place: int, damage: bytes) -> None:
    at = place % (len(seed) + 1)
    stream = OpenAIStream(make_target())
    for piece in cut(seed[:at] + damage + seed[at + len(damage) :], places):
        stream.feed(piece)
    try:
        stream.finish()
    except UpstreamAborted:
        pass


@given(st.sampled_from(SEEDS), st.lists(st.integers(0)))
def test_cuts_change_nothing(seed: bytes, places: list[int]) -> None:
    assert list(map(repr, feed(cut(seed, places)))) == list(map(repr, feed([seed])))


def test_an_endless_event() -> None:
    stream = OpenAIStream(make_target())
    events: list[Event] = []
    for _ in range(EVENT_LIMIT // 65536 + 2):
        events += stream.feed(b"data: x" + b"x" * 65529)
    assert len(events) == 1
    assert isinstance(events[0], StreamFailed)
    assert isinstance(events[0].error, UpstreamProtocol)


def test_nothing_after_the_end() -> None:
    stream = OpenAIStream(make_target())
    assert stream.feed(b"data: [DONE]\n\ndata: {}\n\n") == [StreamEnded()]
    assert stream.feed(b"data: {}\n\n") == []
    assert stream.finish() == []
