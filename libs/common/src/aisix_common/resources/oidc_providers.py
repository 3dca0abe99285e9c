"""`oidc_providers`: who may issue tokens that stand for callers (control-plane 3.12)."""

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from .kind import Kind
from .scalars import Text, whole


class OidcProvider(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One issuer."""

    name: Text
    issuer: Text
    """Compared byte for byte with the token's `iss`."""
    audiences: Annotated[tuple[str, ...], Meta(min_length=1)]
    jwks_uri: str | UnsetType = UNSET
    """Absent: found by discovery."""
    identity_claim: str = "sub"
    required_scopes: tuple[str, ...] = ()
    bound_claims: dict[str, str | Annotated[tuple[str, ...], Meta(min_length=1)]] | UnsetType = UNSET
    """Claims that must have this value, or one of these."""
    leeway_secs: Annotated[int, whole(0, 300)] = 0
    enabled: bool = True


OIDC_PROVIDERS: Final[Kind[OidcProvider]] = Kind("oidc_providers", OidcProvider, name_field="name", nulls=False)
