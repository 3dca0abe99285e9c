"""The wire `openai`: OpenAI itself, and every base that speaks its chat completions API. Buffered side and requests;
streams: openai_stream. Knows no dialect, only that one of them is its own language.
"""

import re
from typing import Final

import msgspec

from ..canonical.answer import Answer, Told
from ..canonical.errors import Misconfigured, UpstreamError, UpstreamProtocol, UpstreamStatus
from ..canonical.http import Origin, UpstreamRequest, UpstreamResponse
from ..canonical.operation import Operation
from ..canonical.request import Request
from ..canonical.target import Target
from ..wire.members import Malformed, decode_as, join_members, read_members
from ..wire.openai_chat import (
    check_answer,
    finish_reason,
    name_of,
    produced_text,
    read_answer,
    read_error,
    safe_text,
)
from .base import CallContext
from .openai_address import address
from .openai_stream import OpenAIStream
from .overrides import change_body, extra_headers

USER_AGENT: Final = "aisix/0.1"
INCLUDE_USAGE: Final = b'{"include_usage":true}'

_SAFE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?\Z")
_SECONDS: Final = re.compile(r"[0-9]{1,7}\Z")
_OURS: Final = ("authorization", "content-type", "accept", "user-agent", "x-aisix-request-id")


class OpenAI:
    """The adapter `openai` (providers/base.py, Adapter)."""

    wire: str = "openai"
    operations: frozenset[Operation] = frozenset({Operation.CHAT})
    native: frozenset[str] = frozenset({"openai-chat"})

    def address(self, provider: str, api_base: str | None) -> tuple[Origin, str]:
        return address(provider, api_base)

    def encode(self, request: Request, target: Target, context: CallContext) -> UpstreamRequest:
        return UpstreamRequest(
            origin=target.origin,
            method="POST",
            path=f"{target.base_path}/chat/completions",
            headers=tuple(_headers(request, target, context)),
            body=_body(request, target),
            trust=target.trust,
        )

    def answer(self, request: Request, response: UpstreamResponse, target: Target) -> Answer:
        try:
            fields = read_members(response.body)
        except Malformed as malformed:
            raise UpstreamProtocol(str(malformed)) from None
        usage = check_answer(response.body, target.credential)
        return Answer(fields, usage, lambda: _told(response.body, target))

    def stream(self, request: Request, target: Target) -> OpenAIStream:
        return OpenAIStream(target)

    def error(self, response: UpstreamResponse, target: Target) -> UpstreamError:
        status = response.status
        if not 400 <= status < 500:
            return UpstreamStatus(status, f"upstream returned {status}")
        message, code, param = _read_error(response, target)
        return UpstreamStatus(
            status,
            message or f"upstream returned {status}",
            code=code,
            param=param,
            retry_after=_retry_after(response) if status == 429 else None,
        )


def _told(data: bytes, target: Target) -> Told:
    body = read_answer(data, target.credential)
    choices = body.choices or []
    return Told(
        text="".join([produced_text(choice.message) for choice in choices if choice.message]),
        finish_reasons=tuple([finish_reason(choice, target.credential) or "stop" for choice in choices]),
        id=name_of(body.id, target.credential),
        model=name_of(body.model, target.credential),
    )


def _headers(request: Request, target: Target, context: CallContext) -> list[tuple[str, str]]:
    credential = target.credential.reveal()
    if not _SAFE.match(credential):
        raise Misconfigured(
            "invalid upstream credentials: the provider key's api_key must not be empty, and may hold only what can "
            "stand in a header",
            status=401,
            type="authentication_error",
        )
    headers = [
        ("Authorization", f"Bearer {credential}"),
        ("Content-Type", "application/json"),
        ("User-Agent", USER_AGENT),
        ("x-aisix-request-id", context.request_id),
    ]
    if request.stream:
        headers.append(("Accept", "text/event-stream"))
    if target.headers or target.forward_headers:
        headers += extra_headers(target.headers, target.forward_headers, context, _OURS)
    return headers


def _body(request: Request, target: Target) -> bytes:
    """The caller's members in their own bytes, with the provider's name of the model, the question for usage, and the
    operator's changes.

    Always put together from the members that were read: the provider then sees the one `model` that was authorised,
    whatever it does with duplicates or escaped names, and joining costs a tenth of searching a large body for them.
    """
    members = dict(request.fields)
    members["model"] = msgspec.Raw(msgspec.json.encode(target.model_name))
    if request.stream and bytes(members.get("stream_options", b"null")) == b"null":
        members["stream_options"] = msgspec.Raw(INCLUDE_USAGE)
    return join_members(change_body(members, target.body) if target.body else members)


def _read_error(response: UpstreamResponse, target: Target) -> tuple[str, str | None, str | None]:
    """(message, code, param) of a 4xx: OpenAI's envelope, else the text as it is."""
    try:
        body = decode_as(_ANY, response.body)
    except Malformed:
        body = None
    if isinstance(body, dict):
        message, code, param = read_error(body.get("error"), target.credential)
        if message:
            return message, code, param
        for name in ("message", "detail"):  # envelopes of servers that are compatible but for their errors
            if isinstance(body.get(name), str) and body[name]:
                return safe_text(body[name], target.credential), code, param
    return safe_text(response.body.decode(errors="replace").strip(), target.credential), None, None


def _retry_after(response: UpstreamResponse) -> int | None:
    """Whole seconds only; a date, or more than four months, is nobody's advice (data-plane 2.5)."""
    value = response.headers.get("retry-after", "").strip()
    return int(value) if _SECONDS.match(value) else None


_ANY: Final = msgspec.json.Decoder()
