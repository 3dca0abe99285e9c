"""`models`: what callers name (control-plane 3.1): a direct model, a router, an ensemble or a semantic router.

Only the document's own rules stand here. Whether the rows it names exist is found when a request needs them.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from .flaw import Flaw, Path
from .kind import Kind
from .rate_limit import RateLimit
from .reference import Reference, by_id
from .scalars import I32, U32, U64, ErrorStatus, Fraction, NotNegative, PositiveU32, PositiveU64, Status, Text, u64

Shape: TypeAlias = Literal["direct", "routing", "ensemble", "semantic"]

TRIGGER_STATUSES: Final = (401, 408, 429, 500, 502, 503, 504)


class Embedding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What an embedding model returns."""

    dimensions: PositiveU32
    normalize: bool = True


class Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """US dollars for a thousand tokens."""

    input_per_1k: NotNegative
    output_per_1k: NotNegative


class AutoPromptCaching(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Cache marks set for callers that set none. `ttl` absent: 5m."""

    enabled: bool
    ttl: Literal["5m", "1h"] | UnsetType = UNSET


class BackgroundModelCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A small request made again and again to see whether the model answers."""

    enabled: bool
    interval_seconds: Annotated[int, u64(5)]
    timeout_seconds: PositiveU64
    prompt: Text
    max_tokens: PositiveU32
    stale_after_seconds: PositiveU64
    ignore_statuses: tuple[Status, ...] = ()


class Cooldown(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """How long a failing target rests."""

    enabled: bool = True
    default_seconds: U64 = 30
    max_seconds: PositiveU64 = 600
    honor_retry_after: bool = True
    trigger_statuses: tuple[Status, ...] = TRIGGER_STATUSES
    trigger_on_timeout: bool = True
    trigger_on_transport: bool = True


class RoutingTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One member of a model group."""

    model: Text
    """Name of a model row."""
    weight: U32 = 1
    priority: I32 = 0
    """Higher first."""
    tags: tuple[Text, ...] = ()


class HashOn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One source of the key for consistent hashing."""

    type: Literal["header", "cookie", "api_key", "client_ip"]
    name: Text | UnsetType = UNSET


class Routing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A group of targets and the way one is chosen."""

    targets: Annotated[tuple[RoutingTarget, ...], Meta(min_length=1)]
    strategy: Literal["failover", "round_robin", "consistent_hash", "least_cost", "least_latency", "least_busy"] = (
        "failover"
    )
    retries: U32 | UnsetType = UNSET
    max_fallbacks: U32 | UnsetType = UNSET
    retry_on_429: bool = False
    fallback_on_statuses: tuple[ErrorStatus, ...] | UnsetType = UNSET
    when_all_unavailable: Literal["fail", "try_anyway"] = "fail"
    hash_on: Annotated[tuple[HashOn, ...], Meta(min_length=1)] | UnsetType = UNSET


class PanelMember(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One voice of an ensemble."""

    model: Text
    temperature: NotNegative | UnsetType = UNSET
    seed: U64 | UnsetType = UNSET
    weight: U32 | UnsetType = UNSET
    """Accepted and ignored."""


class Judge(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Who makes one answer of the panel's."""

    model: Text
    synthesis_prompt: str | UnsetType = UNSET


class Ensemble(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Several models asked at once."""

    panel: Annotated[tuple[PanelMember, ...], Meta(min_length=1)]
    judge: Judge
    min_responses: PositiveU32 | UnsetType = UNSET
    """Absent: two, or the whole panel if it is smaller."""
    timeout_ms: U64 | UnsetType = UNSET
    """0 and absent: none."""


class SemanticRoute(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Examples, and the model for what resembles them."""

    name: Text
    target: Text
    examples: Annotated[tuple[Text, ...], Meta(min_length=1)]
    description: str | UnsetType = UNSET
    threshold: Fraction | UnsetType = UNSET


class SemanticMatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """When an example counts as met."""

    threshold: Fraction
    distance_metric: Literal["cosine"] = "cosine"
    aggregation: Literal["max"] = "max"


class FailTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The model to take when the embedding failed."""

    target: Text


class Semantic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A router by meaning."""

    embedding_model: Text
    routes: Annotated[tuple[SemanticRoute, ...], Meta(min_length=1)]
    default: Text
    match: SemanticMatch
    embedding_timeout_ms: U64 | UnsetType = UNSET
    on_embedding_failure: Literal["default", "fail"] | FailTo = "default"


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One row callers can name. Exactly one shape; see `shape`."""

    display_name: Text
    provider: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*\Z")] | UnsetType = UNSET
    model_name: Text | UnsetType = UNSET
    """What the provider calls it."""
    provider_key_id: Text | UnsetType = UNSET
    timeout: U64 | UnsetType = UNSET
    """Milliseconds; 0: none at this level; absent: the next level's."""
    stream_timeout: U64 | UnsetType = UNSET
    """Milliseconds; 0 and absent: the next level's."""
    retries: U32 | UnsetType = UNSET
    rate_limit: RateLimit | UnsetType = UNSET
    allowed_cidrs: tuple[Text, ...] | UnsetType = UNSET
    """Empty and absent allow all."""
    routing: Routing | UnsetType = UNSET
    ensemble: Ensemble | UnsetType = UNSET
    semantic: Semantic | UnsetType = UNSET
    embedding: Embedding | UnsetType = UNSET
    cost: Cost | UnsetType = UNSET
    background_model_check: BackgroundModelCheck | UnsetType = UNSET
    cooldown: Cooldown | UnsetType = UNSET
    auto_prompt_caching: AutoPromptCaching | UnsetType = UNSET

    @property
    def shape(self) -> Shape:
        """What the row is."""
        if self.routing is not UNSET:
            return "routing"
        if self.ensemble is not UNSET:
            return "ensemble"
        return "direct" if self.semantic is UNSET else "semantic"


DIRECT: Final = ("provider", "model_name", "provider_key_id")
VIRTUAL: Final = ("routing", "ensemble", "semantic")
DIRECT_ONLY: Final = (*DIRECT, "background_model_check", "cooldown", "embedding")

INAPPLICABLE: Final = {
    "direct": (),
    "routing": ("retries", "auto_prompt_caching", "cost"),
    "ensemble": ("timeout", "stream_timeout", "retries", "auto_prompt_caching", "cost"),
    "semantic": ("auto_prompt_caching", "cost"),
}
"""Knobs that would do nothing on a shape: refused when written, stripped and reported when read."""

_CALLED: Final = {"routing": "a model group", "ensemble": "an ensemble", "semantic": "a semantic router"}


def _given(value: Model, names: Sequence[str]) -> list[str]:
    return [name for name in names if getattr(value, name) is not UNSET]


def rules(value: Model, strict: bool) -> Sequence[Flaw]:
    """Exactly one shape, with nothing of the others; when written, no knob that would do nothing."""
    shapes = _given(value, VIRTUAL)
    if not shapes:
        missing = [name for name in DIRECT if getattr(value, name) is UNSET]
        return [Flaw((), f'"{name}" is a required property of a direct model') for name in missing]
    if len(shapes) > 1:
        return [Flaw((), f"only one of {', '.join(f'`{name}`' for name in shapes)} may be given")]
    shape = shapes[0]
    flaws = [Flaw((name,), f"not accepted on {_CALLED[shape]}") for name in _given(value, DIRECT_ONLY)]
    dead = _given(value, INAPPLICABLE[shape])
    if strict and dead:
        flaws.append(Flaw((), f"{', '.join(f'`{name}`' for name in dead)} not accepted on {_CALLED[shape]}"))
    return flaws


def settle(value: Model) -> tuple[Model, tuple[str, ...]]:
    """Strip the knobs that do nothing on this shape; their names are the second part."""
    dead = _given(value, INAPPLICABLE[value.shape])
    if not dead:
        return value, ()
    return msgspec.structs.replace(value, **dict.fromkeys(dead, UNSET)), tuple(dead)


def references(value: Model) -> Sequence[Reference]:
    """The provider key of a direct model; the models that a virtual one is made of."""
    found = by_id("provider_keys", ("provider_key_id",), value.provider_key_id)
    found += [Reference(at, "models", "name", name) for at, name in _members(value) if "*" not in name]
    return found


def _members(value: Model) -> Iterator[tuple[Path, str]]:
    if value.routing is not UNSET:
        for place, target in enumerate(value.routing.targets):
            yield ("routing", "targets", place, "model"), target.model
    if value.ensemble is not UNSET:
        for place, voice in enumerate(value.ensemble.panel):
            yield ("ensemble", "panel", place, "model"), voice.model
        yield ("ensemble", "judge", "model"), value.ensemble.judge.model
    if value.semantic is not UNSET:
        yield ("semantic", "embedding_model"), value.semantic.embedding_model
        for place, route in enumerate(value.semantic.routes):
            yield ("semantic", "routes", place, "target"), route.target
        yield ("semantic", "default"), value.semantic.default
        if isinstance(value.semantic.on_embedding_failure, FailTo):
            yield ("semantic", "on_embedding_failure", "target"), value.semantic.on_embedding_failure.target


MODELS: Final = Kind(
    "models",
    Model,
    name_field="display_name",
    nulls=False,
    rules=rules,
    settle=settle,
    references=references,
)
