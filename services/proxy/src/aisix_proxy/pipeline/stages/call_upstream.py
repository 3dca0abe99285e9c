"""Writes `attempts`, `answer` and what the answer says of itself. Raises UpstreamError or Misconfigured."""

from ..exchange import Exchange


async def call_upstream(exchange: Exchange) -> None:
    """Writes `attempts`, `answer` and what the answer says of itself. Raises UpstreamError or Misconfigured."""
    raise NotImplementedError
