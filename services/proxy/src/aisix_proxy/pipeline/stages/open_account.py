"""First in, last out: whatever becomes of the exchange, it is counted, logged and billed exactly once. What is answered
to its last byte was billed by `deliver` before that."""

from ..exchange import Exchange
from ..settlement import settle


async def open_account(exchange: Exchange) -> None:
    """Reads everything, when all else has been settled; writes `usage`."""
    exchange.exits.push(lambda: settle(exchange))
