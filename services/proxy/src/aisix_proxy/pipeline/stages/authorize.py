"""Whether this caller may use that model: the key's list, then the model's networks (data-plane 3)."""

from ...canonical.errors import Forbidden
from ...compiled_model import shortened
from ..client_address import parse_address, within
from ..exchange import Exchange


async def authorize(exchange: Exchange) -> None:
    """Writes nothing. Raises Forbidden: for the list in the customer's own words (customer-documents, S3)."""
    key, model = exchange.key, exchange.model
    assert key is not None and model is not None
    if not key.allows(exchange.requested_model):
        raise Forbidden(
            f"Access to model '{shortened(exchange.requested_model)}' is forbidden",
            type="invalid_request_error",
            code="model_access_forbidden",
        )
    if model.restricted:
        address = parse_address(exchange.client_ip)
        if address is None or not within(address, model.allowed_networks):
            raise Forbidden("Access denied: your client IP is not allowed to access this model", code="ip_restricted")
