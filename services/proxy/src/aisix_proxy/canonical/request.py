"""A caller's request, whatever dialect it came in."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from .operation import Operation

ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")


class Message(msgspec.Struct, frozen=True):
    """One turn. `content` is text, a list of content parts as the dialect had them, or nothing."""

    role: str
    content: str | Sequence[dict[str, Any]] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: Sequence[dict[str, Any]] = ()

    @property
    def text(self) -> str:
        """The text view: the string, or all `text` parts joined without a separator (data-plane 1.3)."""
        if isinstance(self.content, str):
            return self.content
        parts = self.content or ()
        return "".join(p["text"] for p in parts if p.get("type") == "text" and isinstance(p.get("text"), str))


class Request(msgspec.Struct, frozen=True):
    """What every operation has in common.

    `fields` are the top-level members of the caller's JSON body, each still in its own bytes: what nobody understands
    is passed on byte for byte. Duplicate members were resolved when it was read (the last one counts).
    """

    operation: Operation
    dialect: str
    model: str
    """The name the caller typed."""
    fields: dict[str, msgspec.Raw]
    body: bytes
    """The body as it came, for adapters and dialects that need no change."""
    stream: bool = False
    include_usage: bool = False
    """The caller asked for the usage chunk of a stream."""
    choices: int = 1
    """How many choices were asked for (`n`)."""
