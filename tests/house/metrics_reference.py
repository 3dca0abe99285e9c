"""docs/reference/metrics.md, made from the metrics that the services register. `make docs` writes it."""

import sys

from aisix_admin.telemetry import Telemetry
from aisix_cloud_agent.budgets.metrics import BudgetMetrics as BudgetCheckMetrics
from aisix_cloud_agent.heartbeats.heartbeats import HeartbeatMetrics
from aisix_cloud_agent.identity.certificate_status import CertificateStatus
from aisix_cloud_agent.lead.leading import Leadership
from aisix_cloud_agent.projection.metrics import ProjectionMetrics
from aisix_cloud_agent.status import lead_metrics
from aisix_cloud_agent.usage.metrics import OutboxMetrics
from aisix_common.clock import SYSTEM_CLOCK
from aisix_common.logs import get_logger
from aisix_common.metrics import Family, Metrics
from aisix_common.snapshot import empty
from aisix_common.sources.observed import SourceStatus
from aisix_common.sources.status import config_numbers
from aisix_proxy.managed.budget_metrics import BudgetMetrics
from aisix_proxy.managed.held import hold_counter
from aisix_proxy.managed.usage_metrics import UsageMetrics
from aisix_proxy.telemetry.config_metrics import ConfigMetrics
from aisix_proxy.telemetry.proxy_metrics import Buckets, ProxyMetrics
from aisix_proxy.telemetry.secret_metrics import SecretMetrics

HEAD = """# Metrics

Made from the code by `make docs`. All of them are there, at zero, from the first scrape. A metric has at most 5,000
series; label values past that are counted under `other`, and the overflow in `aisix_metric_series_overflow_total`. Each
listener also has the `process_*` metrics of its own processes.

"""


def proxy_families() -> list[Family]:
    metrics = Metrics()
    ProxyMetrics(metrics, Buckets((1.0,), (1.0,)), env_id="")
    SecretMetrics(metrics)
    UsageMetrics(metrics)
    BudgetMetrics(metrics)
    hold_counter(metrics)
    ConfigMetrics(metrics, lambda: config_numbers(empty("/aisix"), SourceStatus()))
    return metrics.collect()


def admin_families() -> list[Family]:
    metrics = Metrics()
    Telemetry(metrics)
    return metrics.collect()


def agent_families() -> list[Family]:
    metrics, log = Metrics(), get_logger("reference")
    CertificateStatus(SYSTEM_CLOCK, log, metrics)
    ProjectionMetrics(metrics, SYSTEM_CLOCK, log, lambda: 0.0)
    HeartbeatMetrics(metrics)
    OutboxMetrics(metrics)
    BudgetCheckMetrics(metrics)
    lead_metrics(metrics, Leadership("reference"))
    return metrics.collect()


def table(title: str, families: list[Family]) -> str:
    rows = [
        f"| `{f.name}` | {f.kind} | {', '.join(f'`{label}`' for label in f.labels) or '-'} | {f.help} |"
        for f in sorted(families, key=lambda family: family.name)
    ]
    return "\n".join(
        [f"## {title}", "", "| metric | type | labels | meaning |", "| --- | --- | --- | --- |", *rows, ""]
    )


def render() -> str:
    proxy = table("Proxy (`observability.metrics.prometheus.addr`)", proxy_families())
    admin = table("Admin (`admin.metrics_addr`)", admin_families())
    return "\n".join([HEAD + proxy, admin, table("Cloud agent (`managed.metrics_addr`)", agent_families())])


if __name__ == "__main__":
    sys.stdout.write(render())
