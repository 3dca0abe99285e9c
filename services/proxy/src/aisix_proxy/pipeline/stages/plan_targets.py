"""Writes `targets`. Raises Misconfigured."""

from ..exchange import Exchange


async def plan_targets(exchange: Exchange) -> None:
    """Writes `targets`. Raises Misconfigured."""
    raise NotImplementedError
