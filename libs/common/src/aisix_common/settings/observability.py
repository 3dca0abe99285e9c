"""`observability`: logs, metrics and traces."""

from typing import Annotated, Literal

from .values import Address, Bind, Edges, Later, Parse, Ratio, Section, Text, parse_log_level, parse_metrics_path

_SECONDS_TO_TOKEN = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Prometheus(Section, frozen=True, kw_only=True):
    """The metrics listener of the proxy. It has neither TLS nor authentication: keep it private."""

    enabled: bool = True
    """Whether the listener exists; without it there are no `/status` pages either."""
    path: Annotated[str, Parse(parse_metrics_path, "URL path")] = "/metrics"
    """Path of the metrics page. Blank means `/metrics`; a missing leading slash is added."""
    addr: Bind = Address("0.0.0.0", 9090)  # noqa: S104 - Prometheus scrapes from elsewhere
    """Where it listens."""


class MetricsOtlp(Section, frozen=True, kw_only=True):
    """Metrics pushed over OTLP."""

    enabled: bool = False
    """Whether metrics are pushed."""
    endpoint: str | None = None
    """Address of the collector."""


class ClientTypeRule(Section, frozen=True, kw_only=True):
    """Names a client by its user agent."""

    pattern: str
    """Regular expression, found anywhere in the user agent, any case; 1 to 512 bytes."""
    client: str
    """The label value: lower-case letters, digits, dot, underscore and dash; at most 64."""


class Buckets(Section, frozen=True, kw_only=True):
    """Upper bounds of histogram buckets in seconds: 1 to 64 finite numbers above 0, ascending."""

    request_e2e_latency: Edges = (
        *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 420.0, 600.0),
    )
    """A request from its first byte to the last byte of the answer."""
    request_ttft: Edges = _SECONDS_TO_TOKEN
    """A request until the first token of its answer."""
    guardrail_latency: Annotated[Edges, Later("guardrails")] = (
        *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    )
    """One guardrail."""
    a2a_ttfb: Annotated[Edges, Later("agents")] = _SECONDS_TO_TOKEN
    """An agent's first byte."""


class Metrics(Section, frozen=True, kw_only=True):
    """What is measured and where it is shown."""

    prometheus: Prometheus = Prometheus()
    otlp: Annotated[MetricsOtlp, Later("pushing metrics over OTLP")] = MetricsOtlp()
    client_type_rules: tuple[ClientTypeRule, ...] = ()
    """At most 64 rules; the first that matches names the client."""
    buckets: Buckets = Buckets()


class TracingOtlp(Section, frozen=True, kw_only=True):
    """Traces pushed over OTLP."""

    enabled: bool = False
    """Whether traces are pushed."""
    endpoint: str | None = None
    """Address of the collector; needed when enabled."""
    sample_ratio: Ratio = 1.0
    """Share of requests that are traced, 0 to 1."""


class Tracing(Section, frozen=True, kw_only=True):
    """Traces."""

    otlp: Annotated[TracingOtlp, Later("tracing")] = TracingOtlp()


class Observability(Section, frozen=True, kw_only=True):
    """Logs, metrics and traces. Leaving the section out is the same as leaving it empty."""

    service_name: Text = "aisix"
    """What this gateway is called: `gateway` in every line of its JSON logs."""
    log_level: Annotated[str, Parse(parse_log_level, "log level")] = "info"
    """`trace`, `debug`, `info`, `warn`, `error` or `off`, or a list such as `info,store=debug`, of which only
    the first level without a target counts. The environment variable `RUST_LOG` overrides it."""
    log_format: Literal["auto", "json", "text"] = "auto"
    """`auto` is text on a terminal and JSON elsewhere."""
    access_log: bool = True
    """One line for each request that reached an endpoint of the proxy with a valid key. Refused keys, unknown paths and
    methods leave none: `aisix_auth_decisions_total` and `aisix_requests_total` count them."""
    metrics: Metrics = Metrics()
    tracing: Tracing = Tracing()
