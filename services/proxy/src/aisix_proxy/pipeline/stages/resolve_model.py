"""Writes `model`. Raises ModelNotFound."""

from ..exchange import Exchange


async def resolve_model(exchange: Exchange) -> None:
    """Writes `model`. Raises ModelNotFound."""
    raise NotImplementedError
