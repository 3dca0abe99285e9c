"""Remembers what a relayed stream said, in bounded memory, for the few streams whose tokens we must count ourselves.

Nothing is parsed while the stream is short: passed-on frames are kept as they are and read in one go when they reach
RAW_LIMIT, or at the end. Knows the frames that the relay writes (`data: ...` and a blank line), nothing else.
"""

import threading
from collections.abc import Callable
from typing import Final

import msgspec

from ..wire.members import Malformed, decode_as
from ..wire.openai_chat import BODIES, BODY, Body, produced_text

RAW_LIMIT: Final = 16 << 10
"""Bytes of frames kept before they are read."""
TEXT_LIMIT: Final = 256 << 10
"""Characters of text kept; an answer beyond it is extrapolated."""

_TEXT: Final = msgspec.json.Decoder(str)


class Produced:
    """The text of a stream so far."""

    __slots__ = ("_characters", "_kept", "_lock", "_raw", "_raw_texts", "_size", "_texts")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._raw: list[bytes] = []
        self._raw_texts: list[bytes] = []
        self._size = 0
        self._texts: list[str] = []
        self._kept = 0
        self._characters = 0

    def add(self, frames: bytes) -> None:
        """Complete frames as they were passed on."""
        self._raw.append(frames)
        self._size += len(frames)
        if self._size > RAW_LIMIT:
            self._read()

    def add_text(self, raw: bytes) -> None:
        """Text as it stands between the quotes of a JSON string."""
        self._raw_texts.append(raw)
        self._size += len(raw)
        if self._size > RAW_LIMIT:
            self._read()

    def tokens(self, count: Callable[[str], int]) -> int:
        """Tokens so far by the tokenizer `count`. Callers may be in several threads, once nothing is added any more."""
        with self._lock:
            self._read()
        tokens = count("".join(self._texts))
        return tokens if self._characters == self._kept else round(tokens * self._characters / self._kept)

    def _read(self) -> None:
        raw, texts = b"".join(self._raw), b"".join(self._raw_texts)
        self._raw.clear()
        self._raw_texts.clear()
        self._size = 0
        for body in _bodies(raw) if raw else ():
            for choice in body.choices or ():
                if choice.delta is not None:
                    self._keep(produced_text(choice.delta))
        if texts:
            self._keep(_text(texts))

    def _keep(self, text: str) -> None:
        self._characters += len(text)
        kept = text[: TEXT_LIMIT - self._kept]
        if kept:
            self._texts.append(kept)
            self._kept += len(kept)


def _text(raw: bytes) -> str:
    try:
        return decode_as(_TEXT, b'"' + raw + b'"')
    except Malformed:  # passed on unread, and wrong: as good as it gets
        return raw.decode(errors="replace")


def _bodies(raw: bytes) -> list[Body]:
    events = raw.removeprefix(b"data: ").removesuffix(b"\n\n").split(b"\n\ndata: ")
    try:
        return decode_as(BODIES, b"[" + b",".join(events) + b"]")
    except Malformed:
        return [body for event in events if (body := _body(event)) is not None]


def _body(event: bytes) -> Body | None:
    """One event; None when it cannot be read: frames that went through unread were never checked."""
    try:
        return decode_as(BODY, event)
    except Malformed:
        return None
