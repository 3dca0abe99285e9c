"""Writes `key`. Raises Unauthenticated."""

from ..exchange import Exchange


async def authenticate(exchange: Exchange) -> None:
    """Writes `key`. Raises Unauthenticated."""
    raise NotImplementedError
