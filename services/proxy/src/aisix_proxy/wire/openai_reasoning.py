"""Thinking where OpenAI callers look for it: `reasoning_content` of a message or delta (data-plane 4.0, 4.1).

Providers keep it under other names; what they sent stays, a copy is added.
"""

from typing import Any, Final

import msgspec

from .members import decode_as
from .telltales import Telltales

REASONING: Final = ("reasoning",)
"""Where it is looked for when the operator says nothing."""
TARGET: Final = "reasoning_content"

_USUAL: Final = Telltales(REASONING[-1])
_ANY: Final = msgspec.json.Decoder(list[dict[str, Any]])


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
    choices = decode_as(_ANY, raw)
    copied = [_copy(choice.get(holder), path) for choice in choices]
    if any(copied):
        members["choices"] = msgspec.Raw(msgspec.json.encode(choices))


def _copy(message: Any, path: tuple[str, ...]) -> bool:
    """False when there is nothing to do: no thinking there, or already where it belongs."""
    if not isinstance(message, dict) or message.get(TARGET):
        return False
    found: Any = message
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, str) or not found:
        return False
    message[TARGET] = found
    return True
