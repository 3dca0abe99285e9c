"""`guardrails`: what looks at prompts and answers (control-plane 3.4). One Struct for each `kind`."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aisix_common.secret import Secret

from .flaw import Flaw
from .kind import Kind
from .scalars import U8, U32, Moment, PositiveU64, Text, u64, whole

Name64: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
Replacement: TypeAlias = Annotated[str, Meta(max_length=256)]
Action: TypeAlias = Literal["mask", "block"]
Category: TypeAlias = Literal["Hate", "Sexual", "SelfHarm", "Violence"]
StreamMode: TypeAlias = Literal["window", "buffer_full"]

BUFFER_BYTES: Final = 262_144
TIMEOUT_MS: Final = 5000


class Guarding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False, tag_field="kind"):
    """What every guardrail has."""

    name: Text
    enabled: bool = True
    hook_point: Literal["input", "output", "both"] = "both"
    fail_open: bool = True
    """Whether a failing check lets the text pass."""
    enforcement_mode: str = "block"
    """`monitor` only tells; anything else blocks."""
    mandatory: bool = False
    """A remote check that fails blocks, whatever `fail_open` says."""
    direction: str = "both"
    """Accepted and ignored."""
    created_at: Moment | UnsetType = UNSET
    """Older guardrails are asked first, those without a time last."""

    @property
    def kind(self) -> str:
        """What it is."""
        return str(self.__struct_config__.tag)


class Pattern(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Words, or a regular expression."""

    kind: Literal["literal", "regex"]
    value: Text


class Keyword(Guarding, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True, tag="keyword"):
    """Words that are not let through."""

    patterns: tuple[Pattern, ...]


class AwsCredentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Keys of an AWS account."""

    kind: Literal["static"]
    access_key_id: Secret
    secret_access_key: Secret


class Serial(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False, tag_field="kind", tag="serial"):
    """Wait for the check."""


class Timed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False, tag_field="kind", tag="timed"):
    """Wait for the check, but not for ever."""

    timeout_ms: Annotated[int, whole(100, 5000)]


class Bedrock(Guarding, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True, tag="bedrock"):
    """A guardrail of AWS Bedrock."""

    guardrail_id: Name64
    guardrail_version: Annotated[str, Meta(min_length=1, max_length=16)]
    region: Text
    aws_credentials: AwsCredentials
    latency_mode: Serial | Timed
    output_fail_open: bool = False


class AzureContentSafety(
    Guarding, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True, tag="azure_content_safety"
):
    """Azure's prompt shield."""

    endpoint: Text
    api_key: Secret
    timeout_ms: U32 = TIMEOUT_MS
    output_fail_open: bool = False


class AzureTextModeration(
    Guarding,
    frozen=True,
    forbid_unknown_fields=True,
    gc=False,
    kw_only=True,
    tag="azure_content_safety_text_moderation",
):
    """Azure's text moderation."""

    endpoint: Text
    api_key: Secret
    timeout_ms: U32 = TIMEOUT_MS
    output_fail_open: bool = False
    output_type: Literal["FourSeverityLevels", "EightSeverityLevels"] = "FourSeverityLevels"
    categories: tuple[Category, ...] = ("Hate", "Sexual", "SelfHarm", "Violence")
    severity_threshold: Annotated[int, whole(0, 7, (0, 255))] = 2
    severity_threshold_by_category: dict[str, U8] = msgspec.field(default_factory=dict)
    blocklist_names: tuple[str, ...] = ()
    halt_on_blocklist_hit: bool = False
    text_source: Literal["concatenate_user_content", "concatenate_all_content"] = "concatenate_user_content"
    stream_processing_mode: StreamMode = "window"
    window_size: Annotated[int, whole(1, 10_000)] = 10_000
    window_overlap_size: Annotated[int, u64()] = 256
    max_buffer_bytes: PositiveU64 = BUFFER_BYTES
    on_buffer_exceeded: str = "fail_closed"
    """Only `fail_open` differs."""


class AliyunTextModeration(
    Guarding, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True, tag="aliyun_text_moderation"
):
    """Alibaba Cloud's text moderation."""

    region: Text
    access_key_id: Secret
    access_key_secret: Secret
    endpoint: str | UnsetType = UNSET
    risk_level_threshold: Literal["low", "medium", "high"] = "high"
    timeout_ms: U32 = TIMEOUT_MS
    output_fail_open: bool = False
    stream_processing_mode: StreamMode = "window"
    window_size: Annotated[int, whole(1, 2000)] = 2000
    window_overlap_size: Annotated[int, u64()] = 128
    max_buffer_bytes: PositiveU64 = BUFFER_BYTES
    on_buffer_exceeded: str = "fail_closed"


class AliyunAiGuardrail(
    Guarding, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True, tag="aliyun_ai_guardrail"
):
    """Alibaba Cloud's AI guardrail."""

    region: Text
    access_key_id: Secret
    access_key_secret: Secret
    endpoint: str | UnsetType = UNSET
    service_level: str = "pro"
    """`pro` or `basic`; not checked."""
    timeout_ms: U32 = TIMEOUT_MS
    output_fail_open: bool = False
    stream_processing_mode: str = "window"
    """Not checked, as elsewhere."""
    window_size: Annotated[int, whole(1, 2000)] = 2000
    window_overlap_size: Annotated[int, u64()] = 128
    max_buffer_bytes: PositiveU64 = BUFFER_BYTES
    on_buffer_exceeded: str = "fail_closed"


class Detector(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One sort of personal data; `action` absent: the default one."""

    type: Literal[
        "email", "china_mobile", "china_id_card", "bank_card", "us_ssn", "ip_address", "api_key", "jwt", "private_key"
    ]
    action: Action | UnsetType = UNSET


class CustomPattern(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Personal data found by an expression of one's own."""

    name: Name64
    regex: Text
    action: Action | UnsetType = UNSET
    replacement: Replacement | UnsetType = UNSET


class Pii(Guarding, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True, tag="pii"):
    """Personal data, found here without asking anybody."""

    detectors: tuple[Detector, ...] = ()
    custom_patterns: tuple[CustomPattern, ...] = ()
    default_action: Action = "mask"
    max_buffer_bytes: PositiveU64 = BUFFER_BYTES
    on_buffer_exceeded: str = "fail_closed"


class Lakera(Guarding, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True, tag="lakera"):
    """Lakera Guard."""

    api_key: Secret
    endpoint: str | UnsetType = UNSET
    project_id: str | UnsetType = UNSET
    timeout_ms: U32 = TIMEOUT_MS
    output_fail_open: bool = False
    max_buffer_bytes: PositiveU64 = BUFFER_BYTES
    on_buffer_exceeded: str = "fail_closed"


class OpenAiModeration(
    Guarding, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True, tag="openai_moderation"
):
    """OpenAI's moderation endpoint."""

    api_key: Secret
    endpoint: str | UnsetType = UNSET
    model: str = "omni-moderation-latest"
    category_thresholds: dict[str, float] = msgspec.field(default_factory=dict)
    timeout_ms: U32 = TIMEOUT_MS
    output_fail_open: bool = False


class Entity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One entity of Presidio."""

    type: Text
    action: Action | UnsetType = UNSET


class Presidio(Guarding, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True, tag="presidio"):
    """Personal data, found by a Presidio of one's own."""

    analyzer_url: Text
    anonymizer_url: Text
    entities: tuple[Entity, ...] = ()
    default_action: Action = "mask"
    operator: Literal["replace", "mask", "hash", "redact"] = "replace"
    language: str = "en"
    score_threshold: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET
    timeout_ms: U32 = TIMEOUT_MS
    output_fail_open: bool = False
    max_buffer_bytes: PositiveU64 = BUFFER_BYTES
    on_buffer_exceeded: str = "fail_closed"


class HotwordGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Words of which one must be near."""

    terms: Annotated[tuple[str, ...], Meta(min_length=1, max_length=50)]


class SemanticCategory(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One meaning, told by examples."""

    name: Name64
    description: Annotated[str, Meta(min_length=1, max_length=1000)]
    candidate_patterns: Annotated[tuple[str, ...], Meta(min_length=1, max_length=10)]
    negative_patterns: Annotated[tuple[str, ...], Meta(max_length=20)] = ()
    hotword_groups: Annotated[tuple[HotwordGroup, ...], Meta(max_length=10)] = ()
    action: Literal["mask"] | UnsetType = UNSET
    replacement: Replacement | UnsetType = UNSET
    threshold: Annotated[float, Meta(ge=-1, le=1)] | UnsetType = UNSET


class SemanticGuardrail(Guarding, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True, tag="semantic"):
    """Meanings, found by a local model."""

    categories: Annotated[tuple[SemanticCategory, ...], Meta(min_length=1, max_length=30)]


Guardrail: TypeAlias = (
    Keyword
    | Bedrock
    | AzureContentSafety
    | AzureTextModeration
    | AliyunTextModeration
    | AliyunAiGuardrail
    | Pii
    | Lakera
    | OpenAiModeration
    | Presidio
    | SemanticGuardrail
)


def rules(value: Guardrail, strict: bool) -> Sequence[Flaw]:
    """The local model only masks: there is nothing it could block when it fails."""
    if isinstance(value, SemanticGuardrail) and not value.fail_open:
        return [Flaw(("fail_open",), "must be true on a semantic guardrail")]
    return ()


GUARDRAILS: Final[Kind[Guardrail]] = Kind(
    "guardrails",
    Guardrail,
    type_name="Guardrail",
    name_field="name",
    nulls=False,
    rules=rules,
    destinations=("kind", "endpoint", "region"),
)
