"""What operators change about outgoing calls: body members and headers (data-plane 4.0). Pure, and the same for every
adapter that applies them.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from ..canonical.target import BodyOverrides, HeaderTemplate
from ..wire.members import Malformed, decode_as
from .base import CallContext

NEVER_SET: Final = frozenset(
    {
        "authorization",
        "x-api-key",
        "x-goog-api-key",
        "api-key",
        "x-amz-security-token",
        "x-amz-date",
        "x-amz-content-sha256",
        "proxy-authorization",
        "cookie",
        "host",
    }
)
"""Headers that no override may set: they say who we are and whom we call."""

NEVER_FORWARDED: Final = NEVER_SET | {
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "traceparent",
    "tracestate",
    "upgrade",
}
"""Headers of the caller that stay here: they speak of the connection to us, or of the caller's own credentials."""
NEVER_FORWARDED_PREFIXES: Final = ("x-aisix-", "x-stainless-")

FRAMING: Final = frozenset({"connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect"})
"""Headers the client writes itself; a default of the operator would smuggle a second framing."""

_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")
_ANY: Final = msgspec.json.Decoder()
_FLOAT: Final = msgspec.json.Decoder(float)


def change_body(members: dict[str, msgspec.Raw], overrides: BodyOverrides) -> dict[str, msgspec.Raw]:
    """`members` after renames, constraints and defaults, in this order. What cannot be read is left as it is."""
    changed = dict(members)
    for old, new in overrides.renames.items():
        if old in changed:
            changed[new] = changed.pop(old)
    _clamp(changed, overrides)
    for name, value in overrides.defaults.items():
        if name not in changed and name != "stream":  # whether we stream is the caller's word, also when unspoken
            changed[name] = msgspec.Raw(msgspec.json.encode(value))
    if overrides.flatten_content:
        _flatten(changed)
    return changed


def extra_headers(
    templates: Iterable[HeaderTemplate], patterns: Iterable[str], context: CallContext, taken: Iterable[str]
) -> list[tuple[str, str]]:
    """The operator's default headers, then the caller's that `patterns` let pass; none that is `taken` (lower-case)."""
    names = set(taken)
    headers: list[tuple[str, str]] = []
    for template in templates:
        name = template.name.lower()
        value = _fill(template, context)
        if value and name not in names | NEVER_SET | FRAMING and _NAME.match(name):
            names.add(name)
            headers.append((template.name, value))
    wanted = [pattern.partition("*") for pattern in patterns]
    for original, value in context.caller_headers.items() if wanted else ():
        name = original.lower()
        if name in names or not may_forward(name) or not any(_fits(name, pattern) for pattern in wanted):
            continue
        if _NAME.match(name) and _VALUE.match(value):
            names.add(name)
            headers.append((original, value))
    return headers


def may_forward(name: str) -> bool:
    """Whether a caller's header (lower-case name) may ever reach a provider."""
    return name not in NEVER_FORWARDED and not name.startswith(NEVER_FORWARDED_PREFIXES)


def _fits(name: str, pattern: tuple[str, str, str]) -> bool:
    before, star, after = pattern
    if not star:
        return name == before
    return len(name) >= len(before) + len(after) and name.startswith(before) and name.endswith(after)


def _fill(template: HeaderTemplate, context: CallContext) -> str:
    """The header's value; empty when a variable has none, or when it cannot stand in a header."""
    pieces: list[str] = []
    for text, is_variable in template.pieces:
        piece = context.variable(text) if is_variable else text
        if not piece and is_variable:
            return ""
        pieces.append(piece or "")
    value = "".join(pieces)
    return value if _VALUE.match(value) else ""


def _clamp(members: dict[str, msgspec.Raw], overrides: BodyOverrides) -> None:
    low, high = overrides.temperature_min, overrides.temperature_max
    raw = members.get("temperature")
    if raw is None or (low is None and high is None):
        return
    try:
        value = decode_as(_FLOAT, raw)
    except Malformed:
        return
    if high is not None and value > high:
        members["temperature"] = msgspec.Raw(msgspec.json.encode(high))
    elif low is not None and value < low:
        members["temperature"] = msgspec.Raw(msgspec.json.encode(low))


def _flatten(members: dict[str, msgspec.Raw]) -> None:
    """Lists of text parts become one string; a list that holds anything else would lose it, and stays."""
    try:
        messages = decode_as(_ANY, members["messages"])
    except (KeyError, Malformed):
        return
    flattened = [_flat(message) for message in messages]
    if any(flattened):
        members["messages"] = msgspec.Raw(msgspec.json.encode(messages))


def _flat(message: Mapping[str, Any]) -> bool:
    parts = message.get("content")
    if not isinstance(parts, list) or not isinstance(message, dict):
        return False
    if not all(isinstance(p, dict) and p.get("type") == "text" and isinstance(p.get("text"), str) for p in parts):
        return False
    message["content"] = "".join(part["text"] for part in parts)
    return True
