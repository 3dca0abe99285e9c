"""Metrics: cells, the bound on series, the merge of processes, and the text a scraper reads."""

import os
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from aisix_common.metrics import Family, Metrics, ProcessMetrics, Sample, merge, render
from aisix_common.metrics.registry import SERIES_LIMIT


def filled(amount: float = 1) -> Metrics:
    metrics = Metrics()
    metrics.counter("calls_total", "Calls.", ("model",)).cell("gpt").add(amount)
    metrics.gauge("sum_gauge", "Adds up.").cell().set(amount)
    metrics.gauge("max_gauge", "Highest.", merge="max").cell().set(amount)
    metrics.gauge("min_gauge", "Lowest.", merge="min").cell().set(amount)
    metrics.summary("took_seconds", "Time.", ("model",)).cell("gpt").observe(amount)
    histogram = metrics.histogram("latency_seconds", "Latency.", ("model",), buckets=(0.5, 1, 2.5)).cell("gpt")
    histogram.observe(amount)
    return metrics


def values(page: bytes) -> dict[str, float]:
    """Every sample line of a page, by its text before the value."""
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in page.decode().splitlines()
        if not line.startswith("#")
    }


def test_the_page_is_what_prometheus_expects() -> None:
    page = render(filled().collect()).decode()
    assert "# TYPE calls_total counter" in page
    assert 'calls_total{model="gpt"} 1.0' in page
    assert "# TYPE took_seconds summary" in page
    assert 'took_seconds_count{model="gpt"} 1.0' in page
    assert 'took_seconds_sum{model="gpt"} 1.0' in page
    families = {family.name: family for family in text_string_to_metric_families(page)}
    buckets = [(s.labels["le"], s.value) for s in families["latency_seconds"].samples if s.name.endswith("_bucket")]
    assert buckets == [("0.5", 0.0), ("1.0", 1.0), ("2.5", 1.0), ("+Inf", 1.0)], "edges are inclusive, counts add up"
    assert "_created" not in page


def test_everything_registered_is_visible_before_it_is_used() -> None:
    metrics = Metrics()
    metrics.counter("labelled_total", "With labels.", ("model",))
    metrics.counter("plain_total", "Without.")
    metrics.histogram("plain_seconds", "Without.", buckets=(1,))
    page = render(metrics.collect()).decode()
    assert "# HELP labelled_total With labels." in page
    assert "# TYPE labelled_total counter" in page
    assert "plain_total 0.0" in page
    assert 'plain_seconds_bucket{le="+Inf"} 0.0' in page


def test_a_metric_has_one_cell_per_combination() -> None:
    counter = Metrics().counter("calls_total", "Calls.", ("a", "b"))
    assert counter.cell("x", "y") is counter.cell("x", "y")
    assert counter.cell("x", "y") is not counter.cell("y", "x")
    with pytest.raises(ValueError, match="2 labels, not 1"):
        counter.cell("x")


def test_series_are_bounded_and_the_rest_is_counted_as_other() -> None:
    metrics = Metrics()
    counter = metrics.counter("calls_total", "Calls.", ("key", "model"))
    for number in range(SERIES_LIMIT):
        counter.cell(str(number), "m").add()
    for number in range(10):
        counter.cell(f"more-{number}", "m").add()
    counter.cell("7", "m").add()
    found = values(render(metrics.collect()))
    assert found['calls_total{key="other",model="other"}'] == 10
    assert found['calls_total{key="7",model="m"}'] == 2
    assert found['aisix_metric_series_overflow_total{metric="calls_total"}'] == 10
    assert sum("calls_total{key" in name for name in found) == SERIES_LIMIT + 1


def test_a_forgotten_series_leaves_the_page() -> None:
    metrics = Metrics()
    gauge = metrics.gauge("state", "State.", ("model",))
    gauge.cell("gone").set(2)
    gauge.forget("gone")
    gauge.forget("never there")
    assert "gone" not in render(metrics.collect()).decode()


def test_label_values_cannot_break_the_page() -> None:
    metrics = Metrics()
    counter = metrics.counter("calls_total", "Calls.\nTwo lines.", ("model",))
    counter.cell('a"b\\c\nd').add()
    counter.cell("lone \ud800").add()
    assert counter.cell("lone \ud800") is counter.cell("lone \ud800")
    samples = [
        sample
        for family in text_string_to_metric_families(render(metrics.collect()).decode())
        for sample in family.samples
        if sample.name == "calls_total"
    ]
    assert {sample.labels["model"] for sample in samples} == {'a"b\\c\nd', "lone ?"}


def test_names_are_checked() -> None:
    metrics = filled()
    with pytest.raises(ValueError, match="two metrics"):
        metrics.counter("calls_total", "Again.")
    with pytest.raises(ValueError, match="_total"):
        metrics.counter("calls", "No suffix.")
    with pytest.raises(ValueError, match="no name"):
        metrics.gauge("a-b", "Dash.")
    with pytest.raises(ValueError, match="no name"):
        metrics.gauge("ab", "Twice.", ("x", "x"))
    for edges in ((), (2.0, 1.0), (1.0, 1.0), (1.0, float("inf"))):
        with pytest.raises(ValueError, match="ascend"):
            metrics.histogram("h_seconds", "Edges.", buckets=edges)


def test_numbers_that_are_read_are_refreshed_before_each_collection() -> None:
    metrics = Metrics()
    gauge = metrics.gauge("read", "Read.").cell()
    metrics.before_collect(lambda: gauge.add(1))
    metrics.collect()
    assert values(render(metrics.collect()))["read"] == 2


def test_processes_become_one() -> None:
    merged = merge([filled(1).collect(), filled(2).collect()])
    found = values(render(merged))
    assert found['calls_total{model="gpt"}'] == 3
    assert (found["sum_gauge"], found["max_gauge"], found["min_gauge"]) == (3, 2, 1)
    assert found['took_seconds_count{model="gpt"}'] == 2
    assert found['took_seconds_sum{model="gpt"}'] == 3
    assert found['latency_seconds_bucket{le="1.0",model="gpt"}'] == 1
    assert found['latency_seconds_bucket{le="+Inf",model="gpt"}'] == 2


def test_a_family_of_another_shape_is_left_out_of_a_sum() -> None:
    mine = Family("a_total", "A.", "counter", ("x",), (Sample(("1",), 5),))
    theirs = Family("a_total", "A.", "counter", ("y",), (Sample(("1",), 7),))
    assert merge([[mine], [theirs]]) == [mine]


def test_families_travel_between_processes() -> None:
    families = filled().collect()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(families), type=list[Family]) == families


@given(st.lists(st.lists(st.floats(0, 100), max_size=20), min_size=1, max_size=4))
def test_merging_is_the_same_as_counting_in_one_process(processes: list[list[float]]) -> None:
    def count(observations: list[float]) -> list[Family]:
        metrics = Metrics()
        cell = metrics.histogram("h_seconds", "H.", buckets=(1, 10)).cell()
        for value in observations:
            cell.observe(value)
        return metrics.collect()

    together = count([value for observations in processes for value in observations])
    apart = merge([count(observations) for observations in processes])
    one, other = together[-1].samples[0], apart[-1].samples[0]
    assert one.buckets == other.buckets
    assert one.value == pytest.approx(other.value)


def test_what_the_kernel_says_of_us() -> None:
    found = values(render(ProcessMetrics().collect()))
    assert found["process_cpu_seconds_total"] > 0
    assert 5e6 < found["process_resident_memory_bytes"] < 1e11
    assert 0 < found["process_start_time_seconds"] <= time.time() + 2
    before = found["process_open_fds"]
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    try:
        assert values(render(ProcessMetrics().collect()))["process_open_fds"] == before + 5
    finally:
        for fd in opened:
            os.close(fd)


def test_counting_costs_next_to_nothing() -> None:
    metrics = Metrics()
    counter = metrics.counter("calls_total", "Calls.", ("model",)).cell("gpt")
    histogram = metrics.histogram("h_seconds", "H.", buckets=tuple(range(1, 18))).cell()
    rounds, best = 1000, 1.0
    for _ in range(25):  # the quietest of many moments: the machine has other work too
        begun = time.thread_time()
        for _ in range(rounds):
            counter.add()
            histogram.observe(3.3)
        best = min(best, (time.thread_time() - begun) / rounds)
    assert best < 3e-6, "plain counters cost 0.3 us; prometheus_client's would cost 5"
