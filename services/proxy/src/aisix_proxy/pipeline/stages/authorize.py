"""Writes nothing. Raises Forbidden."""

from ..exchange import Exchange


async def authorize(exchange: Exchange) -> None:
    """Writes nothing. Raises Forbidden."""
    raise NotImplementedError
