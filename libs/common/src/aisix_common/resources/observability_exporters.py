"""`observability_exporters`: where usage and traces go (control-plane 3.7). One Struct for each `kind`.

Cloud exporters name their credentials, which stand in the environment of the proxy; OTLP headers are secret.
"""

from collections.abc import Collection, Sequence
from typing import Annotated, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aisix_common.secret import Secret

from .flaw import Flaw
from .kind import Kind
from .scalars import Fraction, Text, whole

LOOPBACK: Final = ("127.0.0.1", "localhost")
DATADOG_SITES: Final = (
    "datadoghq.com",
    "us3.datadoghq.com",
    "us5.datadoghq.com",
    "datadoghq.eu",
    "ap1.datadoghq.com",
    "ap2.datadoghq.com",
    "ddog-gov.com",
)

ContentMode: TypeAlias = Literal["metadata_only", "full"]
ContentBytes: TypeAlias = Annotated[int, whole(1, 1_048_576)]


class Exporter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False, tag_field="kind"):
    """What every exporter has."""

    name: Annotated[str, Meta(min_length=1, max_length=120)]
    enabled: bool = True

    @property
    def kind(self) -> str:
        """What it exports to."""
        return str(self.__struct_config__.tag)


class OtlpHttp(Exporter, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True, tag="otlp_http"):
    """An OpenTelemetry collector."""

    endpoint: str
    headers: dict[str, Secret] = msgspec.field(default_factory=dict)
    sample_rate: Fraction | UnsetType = UNSET
    content_mode: ContentMode = "metadata_only"
    content_max_bytes: ContentBytes = 131_072


class AliyunSls(Exporter, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True, tag="aliyun_sls"):
    """Alibaba Cloud's Simple Log Service."""

    endpoint: str
    project: Text
    logstore: Text
    credential_ref: Text
    content_mode: ContentMode = "metadata_only"
    content_max_bytes: ContentBytes = 131_072


class ObjectStore(Exporter, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True, tag="object_store"):
    """Files in a bucket."""

    provider: Literal["s3", "gcs", "azure_blob"]
    bucket: Text
    prefix: str
    region: str | UnsetType = UNSET
    endpoint: str | UnsetType = UNSET
    compression: Literal["gzip", "none"] = "gzip"
    auth_mode: Literal["credential_ref", "cloud_identity"] = "credential_ref"
    credential_ref: Text | UnsetType = UNSET


class Datadog(Exporter, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True, tag="datadog"):
    """Datadog's logs."""

    site: str
    credential_ref: Text
    service: Text
    ddsource: str = "aisix-ai-gateway"
    tags: tuple[str, ...] = ()
    content_mode: ContentMode = "metadata_only"
    content_max_bytes: ContentBytes = 131_072


ObservabilityExporter: TypeAlias = OtlpHttp | AliyunSls | ObjectStore | Datadog


def rules(value: ObservabilityExporter, strict: bool) -> Sequence[Flaw]:
    """Data leaves over TLS, but to this machine and the known test doubles."""
    if isinstance(value, OtlpHttp):
        return _secure(value.endpoint, ("mock-otlp", "otel-collector", *LOOPBACK))
    if isinstance(value, AliyunSls):
        return () if _is_sls(value.endpoint) else [Flaw(("endpoint",), "the host must end with .aliyuncs.com")]
    if isinstance(value, Datadog):
        known = value.site in DATADOG_SITES or _is_http(f"http://{_bare(value.site)}", ("mock-datadog", *LOOPBACK))
        return () if known else [Flaw(("site",), "value is not a site of Datadog: " + ", ".join(DATADOG_SITES))]
    flaws: list[Flaw] = []
    if value.endpoint is not UNSET:
        flaws += _secure(value.endpoint, ("minio", "azurite", "fake-gcs", "fake-gcs-server", *LOOPBACK))
    if value.auth_mode == "cloud_identity":
        if value.provider == "azure_blob":
            flaws.append(Flaw(("auth_mode",), "cloud_identity is for s3 and gcs"))
    elif value.credential_ref is UNSET:
        flaws.append(Flaw((), '"credential_ref" is a required property unless auth_mode is cloud_identity'))
    return flaws


def _secure(url: str, in_clear: Collection[str]) -> Sequence[Flaw]:
    if _host(url, "https") is not None or _is_http(url, in_clear):
        return ()
    return [Flaw(("endpoint",), f"must be an https URL (http only for {', '.join(in_clear)})")]


def _is_http(url: str, hosts: Collection[str]) -> bool:
    return _host(url, "http") in hosts


def _is_sls(endpoint: str) -> bool:
    """The host alone, as Aliyun shows it, or a URL."""
    host = _host(endpoint if "://" in endpoint else f"https://{endpoint}", "https")
    return (host is not None and host.endswith(".aliyuncs.com")) or _is_http(endpoint, ("mock-sls", *LOOPBACK))


def _bare(site: str) -> str:
    return site.removeprefix("http://")


def _host(url: str, scheme: str) -> str | None:
    """The host of a URL of this scheme; None for anything else, and where other readers would see another host."""
    if "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - read for its ValueError
    except ValueError:
        return None
    return parts.hostname if parts.scheme == scheme and not any(each.isspace() for each in url) else None


OBSERVABILITY_EXPORTERS: Final[Kind[ObservabilityExporter]] = Kind(
    "observability_exporters",
    ObservabilityExporter,
    type_name="ObservabilityExporter",
    name_field="name",
    nulls=False,
    rules=rules,
    destinations=("kind", "endpoint"),
)
