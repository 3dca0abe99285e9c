"""The proxy's Prometheus metrics (data-plane 10.1), all registered at start so that a fresh scrape shows every name.

Label values are configured names or small closed sets, never text of a caller. Cells are looked up once per
combination and kept by the caller (`compiled.CompiledKey`), so that settling a request is a handful of additions.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from aisix_common.metrics import Metrics
from aisix_common.metrics.cells import CounterCell

from ..canonical.usage import Usage

UNKNOWN: Final = "unknown"
UNRESOLVED: Final = "unresolved"

_SUBJECT: Final = (
    "endpoint",
    "inbound_protocol",
    "provider",
    "model",
    "upstream_model",
    "provider_key_id",
    "provider_key_name",
    "api_key_id",
    "team_id",
    "user_id",
    "user_name",
)
_REQUEST: Final = (*_SUBJECT, "stream", "is_fallback", "status", "outcome")
_DURATION: Final = (*_SUBJECT, "stream", "status", "outcome")
_LATENCY: Final = ("env_id", "endpoint", "model", "provider", "status_class", "streaming")
_DEPLOYMENT: Final = ("provider", "model", "upstream_model", "provider_key_id")
_UNREAD: Final = 1024
"""So many combinations of labels may have sums that nobody has read yet."""


class Subject(msgspec.Struct, frozen=True):
    """Whom and what a request was about, as label values in the order of the contract's set R."""

    endpoint: str
    inbound_protocol: str
    provider: str = UNKNOWN
    model: str = UNRESOLVED
    upstream_model: str = UNKNOWN
    provider_key_id: str = UNKNOWN
    provider_key_name: str = UNKNOWN
    api_key_id: str = UNKNOWN
    team_id: str = UNKNOWN
    user_id: str = UNKNOWN
    user_name: str = UNKNOWN
    client_type: str = UNKNOWN
    """Not of the set R: for aisix_llm_tokens_by_client_total."""


def outcome_of(status: int) -> str:
    if status < 400:
        return "success"
    if status == 429:
        return "rate_limited"
    return "client_error" if status < 500 else "upstream_error"


class Buckets(msgspec.Struct, frozen=True):
    """Edges in seconds (`observability.metrics.buckets`)."""

    e2e: Sequence[float]
    ttft: Sequence[float]


class ExchangeCells:
    """The cells of one combination of labels; requests are summed up here until somebody reads the cells."""

    __slots__ = (
        "_completion_tokens",
        "_counts",
        "_durations",
        "_e2e",
        "_inputs",
        "_outputs",
        "_owner",
        "_prompt_tokens",
        "_requests",
        "_seconds",
        "_total_tokens",
        "_totals",
        "_ttft",
    )

    def __init__(self, owner: "ProxyMetrics", subject: Subject, status: int, *, stream: bool, inference: bool) -> None:
        values = tuple(getattr(subject, name) for name in _SUBJECT)
        code, outcome, streaming = str(status), outcome_of(status), "true" if stream else "false"
        request = (*values, streaming, "false", code, outcome)
        duration = (*values, streaming, code, outcome)
        latency = (owner.env_id, subject.endpoint, subject.model, subject.provider, f"{status // 100}xx", streaming)
        counts = [
            owner.requests.cell(subject.provider, subject.model, code, outcome),
            owner.proxy_requests.cell(*request),
        ]
        durations = [
            owner.request_duration.cell(subject.provider, subject.model, code),
            owner.proxy_duration.cell(*duration),
        ]
        if status >= 400:
            counts.append(owner.proxy_failed.cell(*request))
        if inference:
            counts.append(owner.llm_requests.cell(*request))
            durations.append(owner.llm_duration.cell(*duration))
        self._owner = owner
        self._counts = tuple(counts)
        self._durations = tuple(durations)
        self._e2e = owner.e2e_latency.cell(*latency)
        self._ttft = (owner.llm_ttft.cell(*values), owner.request_ttft.cell(*latency)) if stream and inference else ()
        self._inputs: tuple[CounterCell, ...] = ()
        self._outputs: tuple[CounterCell, ...] = ()
        self._totals: tuple[CounterCell, ...] = ()
        if inference and status < 500:
            by_client = owner.tokens_by_client
            self._inputs = (
                owner.tokens_in.cell(*values),
                by_client.cell(subject.client_type, subject.model, "input"),
            )
            self._outputs = (
                owner.tokens_out.cell(*values),
                by_client.cell(subject.client_type, subject.model, "output"),
            )
            self._totals = (
                owner.tokens_total.cell(*values),
                owner.tokens_consumed.cell(subject.provider, subject.model),
            )
        self._clear()

    def settle(self, duration: float, ttft: float | None, usage: Usage) -> None:
        """Count one finished request. Times in seconds; `ttft` None: no byte of an answer was sent."""
        if not self._requests:
            self._owner.unread(self)
        self._requests += 1
        self._seconds += duration
        self._e2e.observe(duration)
        if ttft is not None:
            for cell in self._ttft:
                cell.observe(ttft)
        if usage.total_tokens:
            self._prompt_tokens += usage.prompt_tokens
            self._completion_tokens += usage.completion_tokens
            self._total_tokens += usage.total_tokens

    def flush(self) -> None:
        """Bring the cells up to date."""
        for count in self._counts:
            count.add(self._requests)
        for summary in self._durations:
            summary.add(self._requests, self._seconds)
        for cells, tokens in (
            (self._inputs, self._prompt_tokens),
            (self._outputs, self._completion_tokens),
            (self._totals, self._total_tokens),
        ):
            for cell in cells:
                cell.add(tokens)
        self._clear()

    def _clear(self) -> None:
        self._requests = 0
        self._seconds = 0.0
        self._prompt_tokens = self._completion_tokens = self._total_tokens = 0


class DeploymentCells:
    """The cells of one deployment: what came of its attempts."""

    __slots__ = ("failed", "requests", "succeeded")

    def __init__(self, owner: "ProxyMetrics", provider: str, model: str, upstream_model: str, key_id: str) -> None:
        labels = (provider, model, upstream_model, key_id)
        self.requests = owner.deployment_requests.cell(*labels)
        self.succeeded = owner.deployment_successes.cell(*labels)
        self.failed = owner.deployment_failures.cell(*labels)
        owner.deployment_state.cell(*labels).set(0)


class InFlight:
    """The gauge of one endpoint: how many of its requests are between their first and their last byte."""

    __slots__ = ("_cell",)

    def __init__(self, owner: "ProxyMetrics", endpoint: str, protocol: str) -> None:
        self._cell = owner.in_flight.cell(endpoint, protocol)

    def enter(self) -> None:
        self._cell.value += 1

    def leave(self) -> None:
        self._cell.value -= 1


class ProxyMetrics:
    """Every metric of the proxy that something existing feeds."""

    def __init__(self, metrics: Metrics, buckets: Buckets, *, env_id: str) -> None:
        self.env_id = env_id or UNKNOWN
        counter, summary = metrics.counter, metrics.summary
        self.requests = counter(
            "aisix_requests_total", "Finished requests.", ("provider", "model", "status", "outcome")
        )
        self.request_duration = summary(
            "aisix_request_duration_seconds", "From first to last byte.", ("provider", "model", "status")
        )
        self.proxy_requests = counter("aisix_proxy_requests_total", "Finished requests of every endpoint.", _REQUEST)
        self.proxy_failed = counter(
            "aisix_proxy_failed_requests_total", "Finished requests with a status of 400 or more.", _REQUEST
        )
        self.proxy_duration = summary("aisix_proxy_request_duration_seconds", "From first to last byte.", _DURATION)
        self.llm_requests = counter("aisix_llm_requests_total", "Finished requests of inference endpoints.", _REQUEST)
        self.llm_duration = summary("aisix_llm_request_duration_seconds", "From first to last byte.", _DURATION)
        self.tokens_in = counter("aisix_llm_input_tokens_total", "Prompt tokens.", _SUBJECT)
        self.tokens_out = counter("aisix_llm_output_tokens_total", "Completion tokens.", _SUBJECT)
        self.tokens_total = counter("aisix_llm_total_tokens_total", "Prompt and completion tokens.", _SUBJECT)
        self.llm_ttft = summary("aisix_llm_time_to_first_token_seconds", "Until a stream's first byte.", _SUBJECT)
        self.tokens_consumed = counter("aisix_tokens_consumed_total", "All tokens.", ("provider", "model"))
        self.tokens_by_client = counter(
            "aisix_llm_tokens_by_client_total", "Tokens by kind of client.", ("client_type", "model", "token_type")
        )
        self.e2e_latency = metrics.histogram(
            "aisix_request_e2e_latency_seconds", "From first to last byte.", _LATENCY, buckets=buckets.e2e
        )
        self.request_ttft = metrics.histogram(
            "aisix_request_ttft_seconds", "Until a stream's first byte.", _LATENCY, buckets=buckets.ttft
        )
        self.auth_decisions = counter(
            "aisix_auth_decisions_total", "Decisions on callers' keys.", ("method", "result", "reason")
        )
        self.deployment_requests = counter("aisix_deployment_requests_total", "Attempts on a target.", _DEPLOYMENT)
        self.deployment_successes = counter(
            "aisix_deployment_success_responses_total", "Attempts that were answered well.", _DEPLOYMENT
        )
        self.deployment_failures = counter(
            "aisix_deployment_failure_responses_total", "Attempts that failed.", _DEPLOYMENT
        )
        self.deployment_state = metrics.gauge("aisix_deployment_state", "0 healthy, 2 down.", _DEPLOYMENT, merge="max")
        self.in_flight = metrics.gauge(
            "aisix_proxy_in_flight_requests", "Between first and last byte.", ("endpoint", "inbound_protocol")
        )
        self.client_cancelled = counter(
            "aisix_proxy_client_cancelled_requests_total",
            "Requests whose caller left before the last byte.",
            ("endpoint", "model", "provider_key_id", "provider_key_name"),
        )
        self.body_limit_rejections = counter(
            "aisix_proxy_request_body_limit_rejections_total",
            "Bodies over proxy.request_body_limit_bytes, by how their rest was drained.",
            ("endpoint", "inbound_protocol", "outcome"),
        )
        self.usage_events = counter(
            "aisix_usage_events_emitted_total",
            "Usage events handed to the sinks.",
            ("handler", "status_code", "inbound_protocol", "model", "provider_key_id", "provider_key_name"),
        )

        self.allowed = self.auth_decisions.cell("api_key", "allowed", "none")
        self._anonymous: dict[tuple[str, int], ExchangeCells] = {}
        self._unread: list[ExchangeCells] = []
        metrics.before_collect(self.flush)

    def unread(self, cells: ExchangeCells) -> None:
        """`cells` are about to have something that is to be flushed."""
        if len(self._unread) >= _UNREAD:
            self.flush()
        self._unread.append(cells)

    def flush(self) -> None:
        """Bring all cells up to date."""
        unread, self._unread = self._unread, []
        for cells in unread:
            cells.flush()

    def anonymous(self, endpoint: str, protocol: str, status: int, *, inference: bool) -> ExchangeCells:
        """The cells of requests whose caller is unknown. Endpoints and statuses are few: all are kept."""
        cells = self._anonymous.get((endpoint, status))
        if cells is None:
            cells = ExchangeCells(self, Subject(endpoint, protocol), status, stream=False, inference=inference)
            self._anonymous[endpoint, status] = cells
        return cells
