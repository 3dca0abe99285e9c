"""What a stream said, kept in bounded memory."""

import json
import sys

from aisix_proxy.dialects.openai_produced import RAW_LIMIT, TEXT_LIMIT, Produced


def frame(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


def test_frames_and_texts_are_counted_together() -> None:
    produced = Produced()
    produced.add(frame("one") + frame("two"))
    produced.add_text(b"th\\u0072ee\\n")
    assert produced.tokens(len) == 12
    produced.add(frame("!"))
    assert produced.tokens(len) == 13
    assert Produced().tokens(len) == 0


def test_frames_that_nobody_checked() -> None:
    produced = Produced()
    produced.add(frame("one") + b"data: {\n\n" + frame("two") + b'data: {"choices":[{"delta":5}]}\n\n')
    produced.add_text(b"broken \\")
    assert produced.tokens(len) == 6 + 8


def test_an_endless_stream_is_extrapolated_in_bounded_memory() -> None:
    produced = Produced()
    text = "x" * 1000
    for _ in range(2000):
        produced.add(frame(text))
        produced.add_text(text.encode())
    counted: list[int] = []

    def count(kept: str) -> int:
        counted.append(len(kept))
        return len(kept) // 4

    assert produced.tokens(count) == 1_000_000
    assert counted == [TEXT_LIMIT]
    assert sum(map(sys.getsizeof, produced._texts)) < TEXT_LIMIT + RAW_LIMIT
