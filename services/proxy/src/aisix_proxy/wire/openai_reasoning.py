"""Thinking where OpenAI callers look for it: `reasoning_content` of a message or delta (data-plane 4.0, 4.1).

Providers keep it under other names; what they sent stays, a copy is added.
"""

from typing import Final

import msgspec

from .members import join_items, join_members, read_items, read_members
from .telltales import Telltales

REASONING: Final = ("reasoning",)
"""Where it is looked for when the operator says nothing."""
TARGET: Final = "reasoning_content"

_USUAL: Final = Telltales(REASONING[-1])
_NOTHING: Final = (b"null", b'""', b"false", b"0", b"[]", b"{}")
"""Values that say nothing."""


def reasoning_path(field: str) -> tuple[str, ...]:
    """The path of a configured `response.reasoning_field` (dotted); empty means the usual place."""
    return tuple(field.split(".")) if field else REASONING


def show_reasoning(members: dict[str, msgspec.Raw], holder: str, path: tuple[str, ...]) -> None:
    """Add `reasoning_content` to every choice of an answer's `members` whose `holder` (message or delta) has `path`.

    Raises Malformed when the choices cannot be read.
    """
    raw = bytes(members.get("choices", b""))
    if path == (TARGET,) or (_USUAL if path is REASONING else Telltales(path[-1])).find(raw) < 0:
        return
    choices = read_items(raw)
    copied = [_copied(choice, holder, path) for choice in choices]
    if any(copied):
        members["choices"] = msgspec.Raw(
            join_items([copy or choice for copy, choice in zip(copied, choices, strict=True)])
        )


def _copied(choice: msgspec.Raw, holder: str, path: tuple[str, ...]) -> msgspec.Raw | None:
    """The choice with the copy; None when there is nothing to do: no thinking there, or already where it belongs.

    Every value stays in the bytes it came in: half an emoji, cut between two chunks, is none once it was decoded.
    """
    members = read_members(bytes(choice))
    message = _object(members.get(holder))
    if bytes(message.get(TARGET, b"null")) not in _NOTHING:
        return None
    inner = message
    for name in path[:-1]:
        inner = _object(inner.get(name))
    found = inner.get(path[-1])
    if found is None or not bytes(found).startswith(b'"') or bytes(found) in _NOTHING:
        return None
    message[TARGET] = found
    members[holder] = msgspec.Raw(join_members(message))
    return msgspec.Raw(join_members(members))


def _object(raw: msgspec.Raw | None) -> dict[str, msgspec.Raw]:
    """The members of an object; none of what is no object."""
    data = b"" if raw is None else bytes(raw)
    return read_members(data) if data.startswith(b"{") else {}
