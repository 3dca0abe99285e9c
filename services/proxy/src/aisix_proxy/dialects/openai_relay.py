"""A provider's stream on its way to an OpenAI caller, both speaking the same language: bytes pass, somebody listens.

What the contract makes ours (design 4.1): `model` is the caller's alias in every chunk, the usage-only chunk is hidden
unless asked for, an error chunk ends the stream, and thinking is found under `reasoning_content`. Nothing else changes.

This is the hot path: a stream has hundreds of events and a microsecond or two for each. Three ways, the cheapest first:

* `_pass_alike`: the usual chunk is a head and a tail seen before, with nothing but string text between. No look inside.
* `_pass`: it begins with the bytes, verified once by a real parse, that end in the model's value, and shows no member
  that needs a closer look. One replacement of bytes.
* `_take_apart`: every other chunk is parsed, and put together from its members' own bytes.

No text a model writes can fake its way: a JSON string holds no raw line end, and no quote without a backslash.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from ..canonical.errors import UpstreamAborted, UpstreamError, UpstreamProtocol
from ..canonical.request import Request
from ..canonical.target import Target
from ..canonical.usage import Usage
from ..wire.members import Malformed, join_members, read_members
from ..wire.openai_chat import DONE, Body, choice_index, finish_reason, read_answer, read_usage, write_usage
from ..wire.openai_reasoning import REASONING, reasoning_path, show_reasoning
from ..wire.sse import SseDecoder, complete
from ..wire.telltales import Telltales
from .openai_produced import Produced

EVENT_LIMIT: Final = 1 << 20
"""Bytes of one event; more is no chunk, but somebody who fills our memory."""
END: Final = b"data: [DONE]\n\n"

_LESSONS: Final = 8
"""How often the prefix is learnt anew before a provider is given up whose chunks do not begin alike."""


_TEXTS: Final = (b'"content":"', b'"reasoning_content":"', b'"content": "', b'"reasoning_content": "')
"""What stands right in front of a usual chunk's text."""
_RUN: Final = 16 << 10
"""Bytes that are searched at once for frames that are all alike."""
_TELLTALES: Final = ("finish_reason", "usage", "error")
_USUAL: Final = Telltales(*_TELLTALES, REASONING[-1])
_ENVELOPE: Final = ("id", "object", "created", "model", "system_fingerprint")
_FRAMINGS: Final = tuple((mark, end) for mark in (b"data: ", b"data:") for end in (b"\n\n", b"\r\n\r\n"))
"""How providers frame an event of one line."""


class OpenAIRelay:
    """dialects/base.py, Relay."""

    def __init__(self, request: Request, target: Target) -> None:
        self.usage: Usage | None = None
        self.failed: UpstreamError | None = None
        self.ended = False
        self.events = 0
        self._finished: dict[int, str] = {}
        self._include_usage = request.include_usage
        self._envelope: dict[str, msgspec.Raw] = {}
        """What all chunks of this answer say of themselves, for a usage chunk of ours."""
        self._credential = target.credential
        self._alias = msgspec.json.encode(request.model)
        self._reasoning = reasoning_path(target.reasoning_field)
        usual = self._reasoning is REASONING
        self._telltales = _USUAL if usual else Telltales(*_TELLTALES, self._reasoning[-1])
        self._decoder = SseDecoder(max_event=EVENT_LIMIT)
        self._rest = bytearray()
        """The frame that is not complete yet."""
        self._prefix = self._our_prefix = b""
        self._lessons = 0
        self._model_length = 0
        self._head = self._tail = self._seam = b""
        self._our_head = self._our_tail = self._our_seam = b""
        self._produced = Produced()

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        return tuple(self._finished.values())

    def feed(self, data: bytes) -> bytes:
        if self.ended or self.failed is not None:
            return b""
        if not self._rest and (out := self._pass_alike(data)):
            return out
        frames = self._whole_frames(data)
        return self._work_through(frames) if frames else b""

    def _work_through(self, frames: bytes) -> bytes:
        """Frames of which some may need a closer look: only those are parsed, those around them pass."""
        out: list[bytes] = []
        while frames and not self.ended and self.failed is None:
            passed, frames = self._pass_run(frames)
            if not passed and frames:
                plain, odd, frames = self._sort_out(frames)
                passed = self._pass(plain) if plain else b""
                if plain and not passed:
                    odd = plain + odd
                if odd:
                    passed += self._take_apart(odd)
                self._remember(passed)
            out.append(passed)
        return b"".join(out)

    def _pass_run(self, frames: bytes) -> tuple[bytes, bytes]:
        """As `_pass_alike`, for all at the beginning: (what they become, the frames behind them)."""
        head, tail = self._head, self._tail
        if not head or not frames.startswith(head):
            return b"", frames
        *texts, last = frames[len(head) : _RUN].split(self._seam)
        end = last.find(tail)
        if end >= 0:
            texts.append(last[:end])
        text = b"".join(texts)
        if b'"' in text or b"\n" in text:
            odd = next(place for place, text in enumerate(texts) if b'"' in text or b"\n" in text)
            del texts[odd:]
            text = b"".join(texts)
        if not texts:
            return b"", frames
        size = len(text) + len(texts) * len(self._seam)
        self.events += len(texts)
        if self.usage is None:
            self._produced.add_text(text)
        if self._seam == self._our_seam:
            return frames[:size], frames[size:]
        return self._our_head + self._our_seam.join(texts) + self._our_tail, frames[size:]

    def _sort_out(self, frames: bytes) -> tuple[bytes, bytes, bytes]:
        """(frames to pass, the frame or frames to look into, what comes after them)."""
        prefix = self._prefix
        if b"\r" in frames or not frames.startswith(b"data:"):
            return b"", frames, b""  # unusual framing: the decoder knows it
        if not frames.startswith(prefix or b"\0"):
            end = frames.index(b"\n\n") + 2
            return b"", frames[:end], frames[end:]
        if not self._head and self._lessons < _LESSONS:  # a look at the next alone may teach what they are all like
            end = frames.index(b"\n\n") + 2
            frame = frames[:end]
            if any(mark in frame for mark in _TEXTS) and self._telltales.find(frame) < 0:
                return frame, b"", frames[end:]
        at = self._telltales.find(frames)
        stranger = frames.find(b"data: [DONE]", len(prefix))
        if stranger >= 0 and (at < 0 or stranger < at):
            at = stranger
        if at < 0:
            return frames, b"", b""
        start = frames.rfind(b"\n\n", 0, at) + 2 if b"\n\n" in frames[:at] else 0
        end = frames.index(b"\n\n", at) + 2
        return frames[:start], frames[start:end], frames[end:]

    def finish(self) -> bytes:
        if self.ended or self.failed is not None:
            return b""
        out = self._take_apart(bytes(self._rest) + b"\n\n") if self._rest else b""
        self._remember(out)
        if isinstance(self.failed, UpstreamProtocol):
            self.failed = None  # half an event is no event: what matters is whether the answer was complete without it
        if self.ended or self.failed is not None:
            return out
        if not self._finished:
            raise UpstreamAborted
        return out + self._end()

    @property
    def owes_usage(self) -> bool:
        return self.ended and self._include_usage and self.usage is None and self.events > 0

    def end_with(self, usage: Usage | None) -> bytes:
        if usage is None:
            return END
        self.usage = usage
        members = self._envelope | {"choices": msgspec.Raw(b"[]"), "usage": msgspec.Raw(write_usage(usage))}
        return b"data: " + join_members(members) + b"\n\n" + END

    def produced_tokens(self, count: Callable[[str], int]) -> int:
        return self._produced.tokens(count)

    def _remember(self, out: bytes) -> None:
        if out and self.usage is None:  # else nobody will ask
            self._produced.add(out.removesuffix(END))

    def _whole_frames(self, data: bytes) -> bytes:
        """All complete frames, the unfinished one of last time in front; what is left over waits in `_rest`."""
        rest = self._rest
        if not rest:
            end = complete(data)
            if end == len(data):
                return data
            rest += data[end:]
            frames = data[:end]
        else:
            seam = max(0, len(rest) - 3)  # a frame's end has four bytes at most: only there and after can it lie
            rest += data
            end = complete(rest[seam:])
            frames = bytes(rest[: seam + end]) if end else b""
            del rest[: len(frames)]
        if len(rest) > EVENT_LIMIT and not frames:
            self._fail(UpstreamProtocol(f"an event of its stream is larger than {EVENT_LIMIT} bytes"))
        return frames

    def _pass_alike(self, data: bytes) -> bytes:
        """One frame that differs from a known one in its text only, with the alias in place; else nothing."""
        head, tail = self._head, self._tail
        if not head or not data.startswith(head) or not data.endswith(tail) or len(data) < len(head) + len(tail):
            return b""
        text = data[len(head) : -len(tail)]
        if b'"' in text or b"\n" in text:
            return b""
        self.events += 1
        if self.usage is None:
            self._produced.add_text(text)
        return data if self._seam == self._our_seam else self._our_head + text + self._our_tail

    def _pass(self, frames: bytes) -> bytes:
        """The frames with the alias in place, if none needs a closer look; else nothing."""
        prefix = self._prefix
        if not prefix or not frames.startswith(prefix) or b"\r" in frames:
            return b""
        count = frames.count(b"\n\n")
        if frames.count(b"\n") != 2 * count or (count > 1 and frames.count(b"\n\n" + prefix) != count - 1):
            return b""
        if self._telltales.find(frames) >= 0:
            return b""
        self.events += count
        if self._lessons < _LESSONS:
            last = frames[frames.rfind(b"\n\n", 0, -2) + 2 :] if count > 1 else frames
            self._learn_alike(last, slice(len(prefix) - self._model_length, len(prefix)))
        if prefix == self._our_prefix:
            return frames
        if count > 1:
            frames = frames.replace(b"\n\n" + prefix, b"\n\n" + self._our_prefix)
        return self._our_prefix + frames[len(prefix) :]

    def _learn_alike(self, frame: bytes, model: slice) -> None:
        """Head and tail of a frame without telltales: around the text of its content. `model` is where its value is."""
        for mark in _TEXTS:
            start = frame.find(mark) + len(mark)
            if start < len(mark):
                continue
            end = frame.find(b'"', start)
            if b"\\" in frame[start:end]:
                return
            self._lessons += 1
            self._head, self._tail = frame[:start], frame[end:]
            self._seam = self._tail + self._head
            begin = 6 if frame.startswith(b"data: ") else 5
            self._our_head = b"data: " + self._renamed(frame, begin, start, model)
            self._our_tail = self._renamed(frame, end, len(frame), model).replace(b"\r\n", b"\n")
            self._our_seam = self._our_tail + self._our_head
            return

    def _renamed(self, frame: bytes, start: int, end: int, model: slice) -> bytes:
        """A part of a frame, with the alias for the model's value if that is in it."""
        if model.start < start or model.stop > end:
            return frame[start:end]
        return frame[start : model.start] + self._alias + frame[model.stop : end]

    def _take_apart(self, frames: bytes) -> bytes:
        try:
            events = self._decoder.feed(frames)
        except UpstreamProtocol as error:
            self._fail(error)
            return b""
        out: list[bytes] = []
        for event in events:
            # an event of several lines: between JSON's tokens a line end is white space, and a space does as well
            out.append(self._event(event.data.replace(b"\n", b" "), frames))
            if self.ended or self.failed is not None:
                break
        return b"".join(out)

    def _event(self, data: bytes, frames: bytes) -> bytes:
        if data.strip() == DONE:
            return self._end()
        try:
            chunk = read_answer(data, self._credential)
            members = read_members(data)
            self._learn(data, members, frames)
            show_reasoning(members, "delta", self._reasoning)
        except UpstreamError as error:
            self._fail(error)
            return b""
        except Malformed as malformed:
            self._fail(UpstreamProtocol(str(malformed)))
            return b""
        self._listen(chunk)
        if not chunk.choices and isinstance(chunk.usage, dict) and not self._include_usage:
            return b""
        members["model"] = msgspec.Raw(self._alias)
        if self._include_usage and not self._envelope:
            self._envelope = {name: msgspec.Raw(bytes(members[name])) for name in _ENVELOPE if name in members}
        self.events += 1
        return b"data: " + join_members(members) + b"\n\n"

    def _listen(self, chunk: Body) -> None:
        self.usage = read_usage(chunk.usage) or self.usage
        for choice in chunk.choices or ():
            if reason := finish_reason(choice, self._credential):
                self._finished[choice_index(choice)] = reason

    def _learn(self, data: bytes, members: dict[str, msgspec.Raw], frames: bytes) -> None:
        """What the next chunks will look like, should they look like this one."""
        if self._lessons >= _LESSONS or (self._prefix and (b"data: " + data).startswith(self._prefix)):
            return
        self._lessons += 1
        head = model_head(data, members)
        if not head:
            return
        length = len(bytes(members["model"]))
        for mark, end in _FRAMINGS:
            if mark + data + end not in frames:
                continue
            head = mark + head
            if b'"choices"' not in head and end == b"\n\n":
                self._prefix, self._model_length = head, length
                self._our_prefix = b"data: " + head[len(mark) : -length] + self._alias
            elif self._telltales.find(data) < 0:  # the model behind the text, or CR LF: only the cheapest way is open
                self._learn_alike(mark + data + end, slice(len(head) - length, len(head)))
            return

    def _end(self) -> bytes:
        self.ended = True
        return b"" if self.owes_usage else END

    def _fail(self, error: UpstreamError) -> None:
        self.failed = error
        self._rest.clear()


def model_head(data: bytes, members: dict[str, msgspec.Raw]) -> bytes:
    """The bytes of a chunk up to and including the value of its own `model` member; empty when that is not certain."""
    value = bytes(members.get("model", b""))
    if not value.startswith(b'"'):
        return b""
    for name in (b'"model":', b'"model": '):
        at = data.find(name + value)
        if at < 0:
            continue
        end = at + len(name) + len(value)
        try:
            changed = read_members(data[: end - len(value)] + b'"\\u0000"' + data[end:])
        except Malformed:
            return b""
        # Were this a `model` deeper down, or one of two, the member would still have its old value.
        return data[:end] if bytes(changed.get("model", b"")) == b'"\\u0000"' else b""
    return b""
