"""Register the settlement: usage, usage events, metrics and the access log line, once, at the end."""

from ..exchange import Exchange


async def open_account(exchange: Exchange) -> None:
    """Register the settlement: usage, usage events, metrics and the access log line, once, at the end."""
    raise NotImplementedError
