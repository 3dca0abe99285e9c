"""Server-sent events: the standard's cases as a list, any cut of any bytes, bounds, frame ends, and back again."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_proxy.canonical.errors import UpstreamProtocol
from aisix_proxy.wire.sse import SseDecoder, SseEvent, complete, encode

ODD = b"a\x0b\x0c\x1c\xc2\x85\xe2\x80\xa8b"
"""What Python takes for line ends in text, and the standard does not."""

CASES = {
    "one line": (b"data: a\n\n", [SseEvent(b"a")]),
    "crlf": (b"data: a\r\n\r\n", [SseEvent(b"a")]),
    "cr": (b"data: a\r\rdata: b\r\r", [SseEvent(b"a"), SseEvent(b"b")]),
    "mixed line ends": (b"data: a\r\n\ndata: b\n\r\ndata: c\r\r\n", [SseEvent(b"a"), SseEvent(b"b"), SseEvent(b"c")]),
    "no space": (b"data:a\n\n", [SseEvent(b"a")]),
    "only one space is dropped": (b"data:  a\n\n", [SseEvent(b" a")]),
    "several lines": (b"data: a\ndata:\ndata: b\n\n", [SseEvent(b"a\n\nb")]),
    "a field without a colon": (b"data\ndata\n\n", [SseEvent(b"\n")]),
    "comments": (b":\n\n: keep-alive\ndata: a\n:x\n\n", [SseEvent(b"a")]),
    "event names last one frame": (b"event: x\ndata: a\n\ndata: b\n\n", [SseEvent(b"a", "x"), SseEvent(b"b")]),
    "no data, no event": (b"event: x\n\ndata: b\n\n", [SseEvent(b"b")]),
    "ids last": (b"id: 1\ndata: a\n\ndata: b\n\n", [SseEvent(b"a", id="1"), SseEvent(b"b", id="1")]),
    "an id with NUL is ignored": (b"id: 1\nid: 2\0\ndata: a\n\n", [SseEvent(b"a", id="1")]),
    "retry": (b"retry: 30\ndata: a\n\nretry: x\ndata: b\n\n", [SseEvent(b"a", retry=30), SseEvent(b"b")]),
    "bom": (b"\xef\xbb\xbfdata: a\n\n", [SseEvent(b"a")]),
    "a second bom is none": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [SseEvent(b"b")]),
    "unknown fields": (b"foo: a\ndata: b\n\n", [SseEvent(b"b")]),
    "names are exact": (b"Data: a\ndata : a\n\ndata: b\n\n", [SseEvent(b"b")]),
    "multi-byte text": ("data: 日本\n\n".encode(), [SseEvent("日本".encode())]),
    "bytes that are no text": (b"event: \xff\ndata: \xff\xfe\n\n", [SseEvent(b"\xff\xfe", "\ufffd")]),
    "no line ends but these": (b"data: " + ODD + b"\n\n", [SseEvent(ODD)]),
    "the last blank line forgotten": (b"data: a\n\ndata: [DONE]\n", [SseEvent(b"a"), SseEvent(b"[DONE]")]),
    "the last line cut": (b"data: a\n\ndata: [DONE]", [SseEvent(b"a"), SseEvent(b"[DONE]")]),
    "nothing": (b"", []),
}  # fmt: skip


def decode(*chunks: bytes, max_event: int = 1 << 20) -> list[SseEvent]:
    decoder = SseDecoder(max_event=max_event)
    return [event for chunk in chunks for event in decoder.feed(chunk)] + decoder.finish()


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@pytest.mark.parametrize("case", CASES)
def test_a_case_whole_bytewise_and_cut_anywhere(case: str) -> None:
    data, events = CASES[case]
    assert decode(data) == events
    assert decode(*bytewise(data)) == events
    for at in range(len(data)):
        assert decode(data[:at], b"", data[at:]) == events, at


WORDS = [b"data: ", b"data", b":", b" ", b"event: ", b"id: ", b"retry: 1", b"\0", b"x", b"\xef\xbb\xbf", b"\xff"]
LIKELY = st.sampled_from([*WORDS, b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n"])


@given(st.lists(LIKELY | st.binary(max_size=5), max_size=40), st.data())
def test_any_cut_of_any_bytes_gives_the_same_events(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    expected = decode(stream)
    assert decode(*pieces) == expected
    assert decode(*bytewise(stream)) == expected


@given(st.lists(LIKELY | st.binary(max_size=5), max_size=40), st.integers(1, 30))
def test_nothing_is_raised_but_the_protocol_error(parts: list[bytes], max_event: int) -> None:
    with suppress(UpstreamProtocol):
        decode(*parts, max_event=max_event)


@pytest.mark.parametrize("line_end", [b"", b"\n"])
def test_an_event_that_never_ends_is_refused_and_not_kept(line_end: bytes) -> None:
    decoder = SseDecoder(max_event=1000)
    with pytest.raises(UpstreamProtocol, match="larger than 1000 bytes"):
        for _ in range(200):
            decoder.feed(b"data: x" + line_end)


def test_many_events_have_a_bound_each_not_together() -> None:
    assert len(decode(b"data: 0123456789\n\n" * 1000, max_event=17)) == 1000


@pytest.mark.parametrize(
    ("buffer", "end"),
    [
        (b"", 0),
        (b"\n", 0),
        (b"data: a\n", 0),
        (b"data: a\n\n", 9),
        (b"data: a\n\ndata: b", 9),
        (b"data: a\n\ndata: b\n\nda", 18),
        (b"data: a\r\n\r\n", 11),
        (b"data: a\r\n\r\ndata: b\r\n", 11),
        (b"data: a\r\n\r", 0),
        (b"data: a\n\r\nx", 10),
        (b"data: a\r\rx", 9),
        (b"data: a\r\r\nx", 10),
        (b"data: a\n\ndata: b\r\n\r\n", 20),
        (b"data: a\r\n\r\ndata: b\n\n", 20),
    ],
)
def test_frame_ends(buffer: bytes, end: int) -> None:
    assert complete(buffer) == end
    assert complete(bytearray(buffer)) == end


@given(st.lists(LIKELY | st.binary(max_size=5), max_size=40))
def test_a_frame_end_leaves_nothing_half_read(parts: list[bytes]) -> None:
    """Reading up to the end alone gives what reading it as part of the whole gives: no event is cut."""
    stream = b"".join(parts)
    end = complete(stream)
    decoder = SseDecoder()
    before = decoder.feed(stream[:end])
    assert decoder.finish() == []
    assert before == SseDecoder().feed(stream)[: len(before)]


@given(st.binary(max_size=60), st.text("abc: ", max_size=5))
def test_what_is_encoded_is_read_back(data: bytes, name: str) -> None:
    frame = encode(data, event=name, id="7")
    assert complete(frame) == len(frame)
    (event,) = decode(frame)
    assert event.data == data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert (event.event, event.id) == (name, "7")


def test_a_plain_frame_is_only_its_data() -> None:
    assert encode(b'{"a":1}') == b'data: {"a":1}\n\n'


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b"])
def test_an_event_name_or_id_cannot_smuggle_a_field(text: str) -> None:
    with pytest.raises(ValueError):
        encode(b"x", event=text)
    with pytest.raises(ValueError):
        encode(b"x", id=text)
