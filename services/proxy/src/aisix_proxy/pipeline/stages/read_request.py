"""Writes `request` and `requested_model`. Raises BadRequest or TooLarge."""

from ..exchange import Exchange


async def read_request(exchange: Exchange) -> None:
    """Writes `request` and `requested_model`. Raises BadRequest or TooLarge."""
    raise NotImplementedError
