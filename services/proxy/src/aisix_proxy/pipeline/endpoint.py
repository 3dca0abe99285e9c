"""What an endpoint is: a description, not a story (style 5). The endpoints themselves stand in `endpoints/`."""

from typing import TYPE_CHECKING

import msgspec

from ..canonical.operation import Operation
from ..dialects.base import Dialect

if TYPE_CHECKING:
    from .runner import Stage


class Endpoint(msgspec.Struct, frozen=True):
    """One public API: how it is reached, what it speaks and which stages serve it."""

    method: str
    path: str
    """Exact; also the `endpoint` label of metrics and the `path` of access log lines."""
    stages: "tuple[Stage, ...]"
    dialect: Dialect
    """Shapes requests, answers and errors."""
    operation: Operation | None = None
    """None: not an inference endpoint (no llm metrics, no usage event)."""
    protocol: str = "openai"
    """The `inbound_protocol` label (data-plane 10.1)."""
