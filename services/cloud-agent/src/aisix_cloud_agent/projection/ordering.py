"""In which order a projection writes: no row before those it refers to, and deletes the other way round. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from aisix_common.resources import (
    A2A_AGENTS,
    API_KEYS,
    CACHE_POLICIES,
    CLAIM_MAPPINGS,
    GUARDRAIL_ATTACHMENTS,
    GUARDRAILS,
    MCP_AUTH_SETTINGS,
    MCP_POLICIES,
    MCP_SERVERS,
    MODELS,
    OBSERVABILITY_EXPORTERS,
    OIDC_PROVIDERS,
    PASSTHROUGH_ROUTES,
    PROVIDER_KEYS,
    RATE_LIMIT_POLICIES,
    SECRET_PROVIDERS,
    Kind,
    Loaded,
    read,
)
from aisix_common.store.types import KeyValue

from .layout import Spot

ORDER: Final[tuple[Kind[Any], ...]] = (
    SECRET_PROVIDERS,
    PROVIDER_KEYS,
    MODELS,
    OIDC_PROVIDERS,
    MCP_SERVERS,
    A2A_AGENTS,
    GUARDRAILS,
    API_KEYS,
    PASSTHROUGH_ROUTES,
    GUARDRAIL_ATTACHMENTS,
    RATE_LIMIT_POLICIES,
    CACHE_POLICIES,
    MCP_POLICIES,
    CLAIM_MAPPINGS,
    MCP_AUTH_SETTINGS,
    OBSERVABILITY_EXPORTERS,
)
"""Every kind behind those that its rows must find. Keys come late: who calls finds what they may call."""
_DEEPEST: Final = 8
"""Groups of groups that are put in order; those in a circle have none."""
_UNKNOWN: Final = len(ORDER)
"""Where rows of kinds stand that this build does not know: they may refer to anything."""
_RANKS: Final[Mapping[str, int]] = MappingProxyType({kind.name: rank for rank, kind in enumerate(ORDER)})

Placed: TypeAlias = tuple[Spot, KeyValue]


def dependencies_first(rows: Iterable[Placed]) -> list[Placed]:
    """The rows in the order in which they are to be written; read backwards, that in which they are to be deleted.

    Of one kind the older row comes first: of two rows with one name the one that was created first has it, here as in
    the Cloud.
    """
    rows = list(rows)
    depths = _depths(rows)
    return sorted(
        rows,
        key=lambda placed: (
            _RANKS.get(placed[0].kind, _UNKNOWN),
            depths.get(placed[0].key, 0),
            placed[1].create_revision,
            placed[0].key,
        ),
    )


def _depths(rows: Sequence[Placed]) -> dict[str, int]:
    """How many of these models stand behind a model, one behind the other: its group, its group's targets. By key."""
    keys: dict[str, list[str]] = {}
    named: dict[str, list[str]] = {}
    for spot, row in rows:
        if spot.kind == MODELS.name and isinstance(outcome := read(MODELS, row.value), Loaded):
            keys.setdefault(MODELS.name_of(outcome.value) or "", []).append(spot.key)
            targets = [each.value for each in MODELS.references(outcome.value) if each.kind == MODELS.name]
            if targets:
                named[spot.key] = targets
    depths = dict.fromkeys(named, 1)
    for _ in range(_DEEPEST):
        deeper = {
            key: 1 + max(depths.get(behind, 0) for target in targets for behind in keys.get(target, ("",)))
            for key, targets in named.items()
        }
        if deeper == depths:
            break
        depths = deeper
    return depths
