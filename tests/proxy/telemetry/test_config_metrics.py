"""The configuration's numbers, read when somebody scrapes."""

from aisix_common.metrics import Metrics
from aisix_common.resources import BY_NAME, EXTERNAL_KINDS
from aisix_common.snapshot import empty
from aisix_common.sources.observed import SourceStatus
from aisix_common.sources.status import config_numbers
from aisix_proxy.telemetry.config_metrics import ConfigMetrics

from tests.support.builders import standard


def test_the_hash_of_the_moment_and_the_one_before() -> None:
    metrics = Metrics()
    made = ConfigMetrics(metrics, lambda: config_numbers(standard(), SourceStatus()))

    def told() -> dict[str, float]:
        (family,) = [f for f in metrics.collect() if f.name == "aisix_config_hash_info"]
        assert {type(sample.value) for sample in family.samples} <= {float}, "workers send it to their parent as such"
        return {sample.labels[0]: sample.value for sample in family.samples}

    assert told() == {}
    made.hash_changed("a")
    assert told() == {"a": 1}
    for hash, before in (("b", "a"), ("a", "b"), ("c", "a"), ("d", "c")):
        made.hash_changed(hash)
        assert told() == {hash: 1, before: 0}


def test_numbers_are_those_of_the_moment() -> None:
    metrics = Metrics()
    statuses = [SourceStatus()]
    external = empty("/ext/aisix", EXTERNAL_KINDS)
    ConfigMetrics(metrics, lambda: config_numbers(standard(), statuses[-1], external))

    def values() -> dict[str, float]:
        return {f.name: f.samples[0].value for f in metrics.collect() if f.samples and not f.labels}

    assert values()["aisix_config_source_connected"] == 0
    statuses.append(
        SourceStatus(connected=True, observed_revision=12, applied_revision=11, reloads=3, failures={"fetch": 2})
    )
    for _ in range(2):
        now = values()
        assert now["aisix_config_source_connected"] == 1
        assert (now["aisix_config_observed_revision"], now["aisix_config_applied_revision"]) == (12, 11)
        assert now["aisix_config_reloads_total"] == 3
    (failures,) = [f for f in metrics.collect() if f.name == "aisix_config_reload_failures_total"]
    assert {s.labels[0]: s.value for s in failures.samples}["fetch"] == 2
    (rejected,) = [f for f in metrics.collect() if f.name == "aisix_config_rejected_resources"]
    assert {s.labels[0] for s in rejected.samples} == set(BY_NAME)


def test_a_file_has_no_revisions() -> None:
    metrics = Metrics()
    ConfigMetrics(metrics, lambda: config_numbers(standard(), SourceStatus(type="file", reloads=1)))
    values = {f.name: [s.value for s in f.samples] for f in metrics.collect()}
    assert values["aisix_config_reloads_total"] == [1]
    for name in ("observed_revision", "applied_revision", "source_connected"):
        assert values[f"aisix_config_{name}"] == []
