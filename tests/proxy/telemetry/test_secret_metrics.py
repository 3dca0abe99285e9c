"""What is counted of secrets."""

from aisix_common.metrics import Metrics
from aisix_proxy.telemetry.secret_metrics import SecretMetrics


def test_references_and_fetches() -> None:
    metrics = Metrics()
    made, counts = SecretMetrics(metrics), {"resolved": 2, "failed": 0}
    made.follow(lambda: counts)
    made.fetched("vault", "ok", 0.02)
    made.fetched("vault", "ok", 3.0)
    made.fetched("aws", "away", 5.0)
    counts["failed"] = 1
    families = {family.name: family for family in metrics.collect()}
    references = {sample.labels: sample.value for sample in families["aisix_secret_references"].samples}
    assert references == {("resolved",): 2, ("failed",): 1}
    fetches = {sample.labels: sample.value for sample in families["aisix_secret_fetches_total"].samples}
    assert fetches == {("vault", "ok"): 2, ("aws", "away"): 1}
    seconds = {sample.labels: sum(sample.buckets) for sample in families["aisix_secret_fetch_seconds"].samples}
    assert seconds == {("vault",): 2, ("aws",): 1}
