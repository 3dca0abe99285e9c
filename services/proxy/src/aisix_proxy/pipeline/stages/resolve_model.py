"""Which model row the caller means (data-plane 6.1)."""

from ...canonical.errors import ModelNotFound
from ...compiled_model import quoted
from ..exchange import Exchange


async def resolve_model(exchange: Exchange) -> None:
    """Writes `model`. Raises ModelNotFound."""
    model = exchange.compiled.model(exchange.requested_model)
    if model is None:
        raise ModelNotFound(f"model {quoted(exchange.requested_model)} not found")
    exchange.model = model
