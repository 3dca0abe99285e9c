"""`cache_policies`: which answers are kept and for how long (control-plane 3.6)."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, UnsetType

from .kind import Kind
from .reference import Reference, by_id
from .scalars import U32, U64, Fraction, Text, whole
from .shapes import Tolerant


class SemanticCache(Tolerant, frozen=True, forbid_unknown_fields=True, gc=False):
    """Answers found by meaning instead of by the same words."""

    embedding_model: Text
    threshold: Fraction
    max_entries: Annotated[int, whole(1, 10_000)] = 1000
    embedding_timeout_ms: U64 | UnsetType = UNSET


class CachePolicy(Tolerant, frozen=True, forbid_unknown_fields=True, gc=False):
    """One policy."""

    name: Annotated[str, Meta(min_length=1, max_length=120)]
    enabled: bool = True
    backend: Literal["memory", "redis"] = "memory"
    ttl_seconds: Annotated[int, whole(1, 604_800)] = 3600
    applies_to: Annotated[str, Meta(min_length=1, max_length=255)] = "all"
    """`all`, `model:<name>` or `api_key:<id>`; anything else means all."""
    scope: Literal["api_key", "env"] = "api_key"
    purge_generation: U32 = 0
    """Raised to forget everything that was kept."""
    semantic: SemanticCache | UnsetType = UNSET


def references(value: CachePolicy) -> Sequence[Reference]:
    """What it applies to, and the model that makes embeddings."""
    found: list[Reference] = []
    scope, _, named = value.applies_to.partition(":")
    if scope == "model" and named and "*" not in named:
        found.append(Reference(("applies_to",), "models", "name", named))
    elif scope == "api_key":
        found += by_id("api_keys", ("applies_to",), named)
    if value.semantic is not UNSET and "*" not in value.semantic.embedding_model:
        at = ("semantic", "embedding_model")
        found.append(Reference(at, "models", "name", value.semantic.embedding_model))
    return found


CACHE_POLICIES: Final = Kind("cache_policies", CachePolicy, name_field="name", nulls=False, references=references)
