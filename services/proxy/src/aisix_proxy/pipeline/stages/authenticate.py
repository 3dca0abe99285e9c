"""Who is calling: a caller key from the headers (customer-documents S3; data-plane 2.1).

`Authorization: <key>` and `Authorization: Bearer <key>` in any letter case; without that header, `x-api-key`. A header
that is there and of no use is not made up for by the other one. A key that was rotated is the same key until its
overlap ends; after that it is as unknown as any other.
"""

from typing import Final

from aisix_common.resources import hash_key
from aisix_common.secret import is_reference

from ...canonical.errors import NotReady, Unauthenticated
from ...compiled import CompiledKey
from ..exchange import Exchange

MISSING: Final = "Missing API key in request"
INVALID: Final = "Invalid API key"
_HEADERS: Final = ("Authorization", "x-api-key")
_LONGEST: Final = 8192


async def authenticate(exchange: Exchange) -> None:
    """Writes `key`. Raises Unauthenticated, whose text never holds what was sent; NotReady while no key is known."""
    decisions = exchange.services.metrics.auth_decisions
    try:
        header = _sent(exchange)
        key = exchange.compiled.remembered_credential(header)
        if key is None:
            key = _look_up(exchange, header)
        _still_good(exchange, key)
    except Unauthenticated as error:
        method = "none" if error.reason == "missing" else "api_key"
        decisions.cell(method, "denied", error.reason).add(1)
        raise
    exchange.services.metrics.allowed.add(1)
    exchange.key = key


def _sent(exchange: Exchange) -> str:
    """The one header value that carries the key, as it came."""
    headers = exchange.inbound.headers
    for name in _HEADERS:
        values = headers.getall(name, None)
        if values is not None:
            if len(values) > 1 and len(set(values)) > 1:
                raise Unauthenticated(INVALID, reason="conflicting")
            return values[0]
    raise Unauthenticated(MISSING, reason="missing")


def _look_up(exchange: Exchange, header: str) -> CompiledKey:
    token = _token(header)
    if not token:
        raise Unauthenticated(MISSING, reason="missing")
    if len(token) > _LONGEST or is_reference(token):  # a reference's text is never a key (design 7)
        raise Unauthenticated(INVALID)
    hashed = hash_key(token)
    key = exchange.compiled.key(hashed)
    if key is not None:
        exchange.compiled.remember_credential(header, key)
        return key
    former = exchange.compiled.former_key(hashed, exchange.services.clock.now())
    if former is None:
        if not exchange.services.lifecycle.applied:
            raise NotReady
        raise Unauthenticated(INVALID)
    return former


def _token(header: str) -> str:
    text = header.strip()
    scheme, _, rest = text.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else text


def _still_good(exchange: Exchange, key: CompiledKey) -> None:
    if key.disabled:
        raise Unauthenticated("API key has been disabled", code="api_key_disabled", reason="disabled")
    if key.expires_at is not None and exchange.services.clock.now() > key.expires_at:
        raise Unauthenticated("API key has expired", code="api_key_expired", reason="expired")
