"""The JSON language of OpenAI's chat completions: clients speak it to us, providers speak it back.

Only what somebody has to understand has a field here; everything else stays bytes (wire/members.py). Shapes are lenient
towards providers: a member of an unexpected type is passed on and not understood, unless the frame around it breaks.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec

from aisix_common.secret import Secret

from ..canonical.errors import UpstreamInBand, UpstreamProtocol
from ..canonical.usage import Usage
from .members import Malformed, decode_as

MESSAGE_LIMIT: Final = 1024
"""Bytes of a provider's text that reach a caller (data-plane 2.5)."""
DONE: Final = b"[DONE]"
COUNT_LIMIT: Final = 1 << 53
"""No token count is believed above what every JSON reader can hold."""


# What clients send


class MessageBody(msgspec.Struct, gc=False):
    role: str
    content: str | list[msgspec.Raw] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


class ChatBody(msgspec.Struct, gc=False):
    """A request body, as far as its types are checked (data-plane 1.3)."""

    model: str
    messages: list[MessageBody]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


_NotNegative = Annotated[int, msgspec.Meta(ge=0)]


class _PlainMessage(MessageBody, gc=False):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]


class _PlainChat(ChatBody, gc=False):
    """A request body without fault: its rules are checked as it is decoded, and a fault is told by nobody."""

    messages: Annotated[list[_PlainMessage], msgspec.Meta(min_length=1)]  # type: ignore[assignment]
    n: _NotNegative | None = None
    max_tokens: _NotNegative | None = None
    max_completion_tokens: _NotNegative | None = None


# What providers answer


class Delta(msgspec.Struct):
    """A message, or a piece of one."""

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None


class Choice(msgspec.Struct):
    index: Any = 0
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: Any = None


class Body(msgspec.Struct):
    """A buffered answer or one chunk of a stream."""

    id: Any = ""
    model: Any = ""
    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None


class _Unread(msgspec.Struct, gc=False):
    """An object that nobody looks into."""


class _PlainChoice(msgspec.Struct, gc=False):
    delta: _Unread | None = None
    message: _Unread | None = None


_Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_LIMIT)]


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: _Count = 0


class _CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: _Count = 0


class _PlainUsage(msgspec.Struct, gc=False):
    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0
    total_tokens: _Count = 0
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: _Count = 0


class _PlainBody(msgspec.Struct, gc=False):
    """A buffered answer of the usual kind: whatever is odd about one makes it no such."""

    choices: list[_PlainChoice]
    usage: _PlainUsage | None = None
    error: None = None


class ToolCall(msgspec.Struct, frozen=True):
    """A tool call, or a piece of one, read leniently."""

    index: int
    id: str | None
    name: str | None
    arguments: str


CHAT_BODY: Final = msgspec.json.Decoder(ChatBody)
_PLAIN_CHAT: Final = msgspec.json.Decoder(_PlainChat)
BODY: Final = msgspec.json.Decoder(Body)
BODIES: Final = msgspec.json.Decoder(list[Body])
_PLAIN_BODY: Final = msgspec.json.Decoder(_PlainBody)


def sound_chat(data: bytes) -> ChatBody | None:
    """A request body that breaks no rule; None: it must be read by CHAT_BODY, step by step, to find which."""
    try:
        return _PLAIN_CHAT.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def read_answer(data: bytes, credential: Secret) -> Body:
    """A buffered 2xx or a chunk. Raises UpstreamProtocol, or UpstreamInBand for an error object (data-plane 4.1)."""
    try:
        body = decode_as(BODY, data)
    except Malformed as malformed:
        raise UpstreamProtocol(str(malformed)) from None
    if body.error:
        raise error_in_band(body.error, credential)
    if body.choices is None and not isinstance(body.usage, dict):
        raise UpstreamProtocol("choices: is required")
    return body


def check_answer(data: bytes, credential: Secret) -> Usage | None:
    """What the provider counted in a complete answer. Raises as `read_answer` does, and when there are no choices.

    The usual answer is checked without being taken apart; only one that fails is read as leniently as can be.
    """
    try:
        plain = _PLAIN_BODY.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = read_answer(data, credential)
        if body.choices is None:
            raise UpstreamProtocol("choices: is required") from None
        return read_usage(body.usage)
    return _plain_usage(plain.usage) if plain.usage is not None else None


def choice_index(choice: Choice) -> int:
    return choice.index if isinstance(choice.index, int) else 0


def finish_reason(choice: Choice, credential: Secret) -> str:
    """Why the choice ended, or "" while it has not."""
    return name_of(choice.finish_reason, credential)


def name_of(value: Any, credential: Secret) -> str:
    """A name that the provider gives to something, as it may be written down: see `safe_text`. "" if it is no text."""
    return safe_text(value, credential) if isinstance(value, str) and value else ""


def text_of(content: Any) -> str:
    """Visible text: a string, or the texts of a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))


def reasoning_of(delta: Delta) -> str:
    """Thinking, under the one name or the other; never twice."""
    return text_of(delta.reasoning_content) or text_of(delta.reasoning)


def tool_calls_of(delta: Delta) -> Iterator[ToolCall]:
    """Tool calls, and the function call of the years before them as a tool call without an id."""
    calls = delta.tool_calls if isinstance(delta.tool_calls, list) else []
    if isinstance(delta.function_call, dict):
        calls = [*calls, {"function": delta.function_call}]
    for position, call in enumerate(calls):
        if not isinstance(call, dict):
            continue
        index, function = call.get("index"), call.get("function")
        function = function if isinstance(function, dict) else {}
        yield ToolCall(
            index=index if isinstance(index, int) else position,
            id=_text_or_none(call.get("id")),
            name=_text_or_none(function.get("name")),
            arguments=_text_or_none(function.get("arguments")) or "",
        )


def produced_text(delta: Delta) -> str:
    """Everything the model wrote in this piece: what has to be counted where the provider did not."""
    tools = "".join((call.name or "") + call.arguments for call in tool_calls_of(delta))
    return reasoning_of(delta) + text_of(delta.content) + text_of(delta.refusal) + tools


def read_usage(usage: Any) -> Usage | None:
    """A provider's usage object. None where it says nothing: absent, or all zero (data-plane 13.40)."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    total = _count(usage.get("total_tokens")) or prompt + completion
    if not total:
        return None
    cached = _detail(usage, "prompt_tokens_details", "cached_tokens") or _count(usage.get("prompt_cache_hit_tokens"))
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=total,
        cached_tokens=cached,
        reasoning_tokens=_detail(usage, "completion_tokens_details", "reasoning_tokens"),
    )


def _plain_usage(usage: _PlainUsage) -> Usage | None:
    """As `read_usage`, of counts that were checked."""
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    total = usage.total_tokens or prompt + completion
    if not total:
        return None
    given, produced = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        prompt,
        completion,
        total,
        (given.cached_tokens if given is not None else 0) or usage.prompt_cache_hit_tokens,
        produced.reasoning_tokens if produced is not None else 0,
    )


def write_usage(usage: Usage) -> bytes:
    """A usage object of our own; details only where there are some (data-plane 1.3)."""
    members: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.cached_tokens:
        members["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens:
        members["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return msgspec.json.encode(members)


def error_in_band(error: Any, credential: Secret) -> UpstreamInBand:
    """An error object (or text) inside an answer that began with 200; a numeric code 400-599 is its status."""
    message, code, _ = read_error(error, credential)
    status = int(code) if code and re.fullmatch(r"[45]\d\d", code) else None
    return UpstreamInBand(message or "the provider reported an error", upstream_status=status, code=code)


def read_error(error: Any, credential: Secret) -> tuple[str, str | None, str | None]:
    """(message, code, param) of an error object or text; "" and None for what is missing. Numbers become text."""
    if isinstance(error, str):
        return safe_text(error, credential), None, None
    if not isinstance(error, dict):
        return "", None, None
    code = error.get("code")
    if isinstance(code, int) and not isinstance(code, bool):
        code = str(code)
    message, param = error.get("message"), error.get("param")
    return (
        safe_text(message, credential) if isinstance(message, str) else "",
        safe_text(code, credential) if isinstance(code, str) and code else None,
        safe_text(param, credential) if isinstance(param, str) and param else None,
    )


def safe_text(text: str, credential: Secret) -> str:
    """A provider's text for a caller or a log: our credential blanked out, at most MESSAGE_LIMIT bytes."""
    text = text.encode(errors="replace").decode()
    secret = credential.reveal()
    if secret:
        text = text.replace(secret, "***")
    raw = text.encode()
    if len(raw) <= MESSAGE_LIMIT:
        return text
    return raw[: MESSAGE_LIMIT - 3].decode(errors="ignore") + "…"


def _count(value: Any) -> int:
    """A token count from somebody who may lie: no number, a negative or an absurd one counts as nothing."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= COUNT_LIMIT else 0


def _detail(usage: dict[str, Any], group: str, name: str) -> int:
    details = usage.get(group)
    return _count(details.get(name)) if isinstance(details, dict) else 0


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None
