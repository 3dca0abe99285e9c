"""`claim_mappings`: which caller key a token stands for (control-plane 3.13)."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from .kind import Kind
from .reference import Reference, by_id
from .scalars import U32, Text


class ClaimMatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A claim that must hold one of the values."""

    claim: Text
    op: Literal["exact", "contains"]
    values: Annotated[tuple[str, ...], Meta(min_length=1)]


class Resolve(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What a matching token gets."""

    api_key_id: Text


class ClaimMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One rule; all its matches must hold."""

    name: Text
    jwt_provider: Text
    match: Annotated[tuple[ClaimMatch, ...], Meta(min_length=1)]
    resolve: Resolve
    priority: U32 = 0
    """Lower first, then by name."""
    enabled: bool = True


def references(value: ClaimMapping) -> Sequence[Reference]:
    """The issuer and the caller key."""
    issuer = Reference(("jwt_provider",), "oidc_providers", "name", value.jwt_provider)
    return [issuer, *by_id("api_keys", ("resolve", "api_key_id"), value.resolve.api_key_id)]


CLAIM_MAPPINGS: Final = Kind("claim_mappings", ClaimMapping, name_field="name", nulls=False, references=references)
