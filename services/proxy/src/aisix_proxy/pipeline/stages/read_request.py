"""What is asked for: the body, read by the endpoint's dialect."""

from ...canonical.errors import BadRequest
from ..exchange import Exchange

_INVALID = "request payload is invalid: "


async def read_request(exchange: Exchange) -> None:
    """Writes `request` and `requested_model`. Raises BadRequest, and what `read_body` raises (TooLarge)."""
    headers = exchange.inbound.headers
    _accept(headers.get("Content-Type", ""), headers.get("Content-Encoding", ""))
    body = await exchange.read_body()
    request = exchange.endpoint.dialect.read(body)
    exchange.request = request
    exchange.requested_model = request.model


def _accept(content_type: str, coding: str) -> None:
    if content_type != "application/json":
        kind = content_type.partition(";")[0].strip().lower()
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            raise BadRequest(_INVALID + "invalid JSON request body")
    if coding and coding.strip().lower() != "identity":
        raise BadRequest(_INVALID + "invalid JSON request body: send it without Content-Encoding")
