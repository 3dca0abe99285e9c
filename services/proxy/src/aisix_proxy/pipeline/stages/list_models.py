"""Writes `answer`."""

from ..exchange import Exchange


async def list_models(exchange: Exchange) -> None:
    """Writes `answer`."""
    raise NotImplementedError
