"""What OpenAI SDKs speak on /v1/chat/completions: reads requests, writes answers and errors. Streams: openai_relay."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from ..canonical.answer import Answer
from ..canonical.errors import BadRequest, GatewayError
from ..canonical.operation import Operation
from ..canonical.request import ROLES, Message, Request
from ..canonical.target import Target
from ..canonical.usage import Usage
from ..wire.members import Malformed, decode_as, join_members, read_members
from ..wire.openai_chat import CHAT_BODY, ChatBody, sound_chat, write_usage
from ..wire.openai_reasoning import REASONING, show_reasoning
from ..wire.sse import encode as encode_event
from .openai_relay import OpenAIRelay

INVALID_BODY: Final = "request payload is invalid: invalid JSON request body"
NO_MESSAGES: Final = "request payload is invalid: messages array must not be empty"
"""The contract's fixed texts (data-plane 1.3). Path and rule are appended to the first."""

_ROLES: Final = frozenset(ROLES)
_ANY_LIST: Final = msgspec.json.Decoder(list[Any])


class OpenAIChat:
    """The dialect `openai-chat` (dialects/base.py, Dialect)."""

    name: str = "openai-chat"

    def read(self, body: bytes) -> Request:
        try:
            fields = read_members(body)
            chat = sound_chat(body) or _checked(decode_as(CHAT_BODY, body))
        except Malformed as malformed:
            raise _bad_body(malformed.path, malformed.rule) from None
        return Request(
            operation=Operation.CHAT,
            dialect=self.name,
            model=chat.model,
            fields=fields,
            body=body,
            stream=bool(chat.stream),
            include_usage=bool(chat.stream_options and chat.stream_options.include_usage),
            choices=chat.n or 1,
        )

    def messages(self, request: Request) -> tuple[Message, ...]:
        try:
            messages = decode_as(_ANY_LIST, request.fields["messages"])
        except Malformed as malformed:  # a number that Python cannot hold, deep inside a part
            raise _bad_body(f"messages{malformed.path}", malformed.rule) from None
        return tuple(_message(message) for message in messages)

    def answer(self, request: Request, answer: Answer, usage: Usage) -> bytes:
        fields = dict(answer.fields)
        fields["model"] = msgspec.Raw(msgspec.json.encode(request.model))
        if usage.estimated or bytes(fields.get("usage", b"null")) == b"null":
            fields["usage"] = msgspec.Raw(write_usage(usage))
        with suppress(Malformed):  # choices that cannot be read are passed on as they are
            show_reasoning(fields, "message", REASONING)
        return join_members(fields)

    def relay(self, request: Request, target: Target) -> OpenAIRelay:
        return OpenAIRelay(request, target)

    def error(self, error: GatewayError) -> tuple[bytes, Mapping[str, str]]:
        members: dict[str, str | int] = {"message": error.message, "type": error.type}
        if error.param is not None:
            members["param"] = error.param
        if error.code is not None:
            members["code"] = error.code
        for name, value in error.extras.items():
            members.setdefault(name, value)
        headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        return msgspec.json.encode({"error": members}), headers

    def stream_error(self, error: GatewayError) -> bytes:
        body, _ = self.error(error)
        return encode_event(body, event="error")


def _checked(chat: ChatBody) -> ChatBody:
    if not chat.messages:
        raise BadRequest(NO_MESSAGES, param="messages")
    for position, message in enumerate(chat.messages):
        if message.role not in _ROLES:
            raise _bad_body(f"messages[{position}].role", f"must be one of {', '.join(ROLES)}")
    for name in ("n", "max_tokens", "max_completion_tokens"):
        value = getattr(chat, name)
        if value is not None and value < 0:
            raise _bad_body(name, "must not be negative")
    return chat


def _bad_body(path: str, rule: str) -> BadRequest:
    where = f"{path}: {rule}" if path else f"it {rule}"
    return BadRequest(f"{INVALID_BODY}: {where}", param=path or None)


def _message(message: dict[str, Any]) -> Message:
    content = message.get("content")
    if isinstance(content, list):
        content = [part for part in content if isinstance(part, dict)]
    calls = message.get("tool_calls") or ()
    return Message(
        role=message["role"],
        content=content,
        name=message.get("name"),
        tool_call_id=message.get("tool_call_id"),
        tool_calls=[call for call in calls if isinstance(call, dict)],
    )
