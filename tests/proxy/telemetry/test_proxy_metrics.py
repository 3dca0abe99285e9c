"""The metrics of data-plane 10.1: there from the start, and counted once each."""

import pytest

from aisix_common.metrics import Metrics, render
from aisix_proxy.canonical.usage import NO_USAGE, Usage
from aisix_proxy.telemetry.proxy_metrics import Buckets, ExchangeCells, InFlight, ProxyMetrics, Subject, outcome_of


def made() -> tuple[Metrics, ProxyMetrics]:
    metrics = Metrics()
    return metrics, ProxyMetrics(metrics, Buckets((0.1, 1.0), (0.1, 1.0)), env_id="")


def total(metrics: Metrics, name: str) -> float:
    (family,) = [family for family in metrics.collect() if family.name == name]
    return sum(sample.count if family.kind == "summary" else sample.value for sample in family.samples)


def test_a_fresh_page_has_every_name() -> None:
    metrics, _ = made()
    page = render(metrics.collect()).decode()
    for name in (
        "aisix_requests_total",
        "aisix_proxy_requests_total",
        "aisix_llm_requests_total",
        "aisix_llm_input_tokens_total",
        "aisix_request_e2e_latency_seconds",
        "aisix_request_ttft_seconds",
        "aisix_auth_decisions_total",
        "aisix_deployment_requests_total",
        "aisix_deployment_state",
        "aisix_proxy_in_flight_requests",
        "aisix_proxy_client_cancelled_requests_total",
        "aisix_proxy_request_body_limit_rejections_total",
        "aisix_usage_events_emitted_total",
    ):
        assert f"# HELP {name} " in page or f"# HELP {name.removesuffix('_total')} " in page


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "success"),
        (302, "success"),
        (400, "client_error"),
        (429, "rate_limited"),
        (499, "client_error"),
        (502, "upstream_error"),
    ],
)
def test_outcomes(status: int, outcome: str) -> None:
    assert outcome_of(status) == outcome


def test_settle() -> None:
    metrics, owner = made()
    cells = ExchangeCells(owner, Subject("/x", "openai", model="m"), 200, stream=True, inference=True)
    cells.settle(0.5, 0.2, Usage(3, 4, 7))
    assert total(metrics, "aisix_llm_total_tokens_total") == 7
    assert total(metrics, "aisix_tokens_consumed_total") == 7
    assert total(metrics, "aisix_llm_tokens_by_client_total") == 7
    assert total(metrics, "aisix_llm_time_to_first_token_seconds") == 1
    assert total(metrics, "aisix_proxy_failed_requests_total") == 0


def test_sums_are_read_once_and_never_wait_in_great_number() -> None:
    metrics, owner = made()
    for n in range(1500):
        cells = ExchangeCells(owner, Subject("/x", "openai", model=f"m{n}"), 200, stream=False, inference=True)
        cells.settle(0.5, None, Usage(3, 4, 7))
        cells.settle(0.5, None, NO_USAGE)
        assert len(owner._unread) <= 1024
    for _ in range(2):
        assert total(metrics, "aisix_llm_requests_total") == 3000
        assert total(metrics, "aisix_llm_request_duration_seconds") == 3000
        assert total(metrics, "aisix_llm_input_tokens_total") == 4500
        assert total(metrics, "aisix_llm_output_tokens_total") == 6000
    assert not owner._unread


def test_a_failure_counts_no_tokens() -> None:
    metrics, owner = made()
    ExchangeCells(owner, Subject("/x", "openai"), 502, stream=False, inference=True).settle(0.5, None, NO_USAGE)
    assert total(metrics, "aisix_proxy_failed_requests_total") == 1
    assert total(metrics, "aisix_llm_total_tokens_total") == 0


def test_in_flight() -> None:
    metrics, owner = made()
    gauge = InFlight(owner, "/x", "openai")
    gauge.enter()
    gauge.enter()
    gauge.leave()
    assert total(metrics, "aisix_proxy_in_flight_requests") == 1
