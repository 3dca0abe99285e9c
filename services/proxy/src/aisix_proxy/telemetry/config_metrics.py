"""The `aisix_config_*` metrics (data-plane 10.1): read from the source when somebody scrapes, kept by nobody.

But for the hash, which costs too much to be made for a scrape: `config_hash` brings it.
"""

from collections.abc import Callable, Mapping

from aisix_common.metrics import Counter, Gauge, Metrics
from aisix_common.sources.status import ConfigNumbers


class ConfigMetrics:
    """Registers the metrics and refreshes them before every scrape."""

    def __init__(self, metrics: Metrics, numbers: Callable[[], ConfigNumbers]) -> None:
        self._numbers = numbers
        self._successful = metrics.gauge(
            "aisix_config_last_reload_successful", "Whether the last look at the source rejected nothing.", merge="min"
        )
        self._success_time = metrics.gauge(
            "aisix_config_last_reload_success_timestamp_seconds", "When that last was so.", merge="min"
        )
        self._reloads = metrics.counter("aisix_config_reloads_total", "Full listings and failed fetches.")
        self._failures = metrics.counter("aisix_config_reload_failures_total", "By reason.", ("reason",))
        self._rejected = metrics.gauge("aisix_config_rejected_resources", "Rows not accepted.", ("kind",), merge="max")
        self._partial = metrics.gauge(
            "aisix_config_partially_compatible_resources", "Rows with unknown fields.", ("kind",), merge="max"
        )
        self._stale = metrics.gauge(
            "aisix_config_stale_served_resources", "Rows served by an older value.", ("kind",), merge="max"
        )
        self._observed = metrics.gauge("aisix_config_observed_revision", "Newest revision seen.", merge="min")
        self._applied = metrics.gauge("aisix_config_applied_revision", "Revision that is served.", merge="min")
        self._connected = metrics.gauge("aisix_config_source_connected", "1 while etcd answers.", merge="min")
        self._hash_info = metrics.gauge(
            "aisix_config_hash_info", "1 for the hash of what is served; 0 for the one before.", ("hash",), merge="max"
        )
        self._hashes: tuple[str, ...] = ()
        metrics.before_collect(self.refresh)

    def hash_changed(self, hash: str) -> None:
        """What is served has the fingerprint `hash` now. The one before it is told with 0; older ones go."""
        kept = (*(old for old in self._hashes if old != hash), hash)
        for old in kept[:-2]:
            self._hash_info.forget(old)
        self._hashes = kept[-2:]
        for each in self._hashes:
            self._hash_info.cell(each).set(1.0 if each == hash else 0.0)

    def refresh(self) -> None:
        """Read everything anew."""
        now = self._numbers()
        self._successful.cell().set(now.last_reload_successful)
        self._success_time.cell().set(now.last_reload_success_timestamp_seconds or 0)
        _raise_to(self._reloads, (), now.reloads_total)
        for reason, count in now.reload_failures_total.items():
            _raise_to(self._failures, (reason,), count)
        _set_all(self._rejected, now.rejected_resources)
        _set_all(self._partial, now.partially_compatible_resources)
        _set_all(self._stale, now.stale_served_resources)
        if now.source_connected is not None:  # a file has no revisions, and nothing to be connected with
            self._observed.cell().set(now.observed_revision or 0)
            self._applied.cell().set(now.applied_revision or 0)
            self._connected.cell().set(now.source_connected)
        else:
            for gauge in (self._observed, self._applied, self._connected):
                gauge.forget()


def _set_all(gauge: Gauge, by_kind: Mapping[str, int]) -> None:
    """Kinds that are gone go to 0 rather than away."""
    for sample in gauge.collect().samples:
        if sample.labels[0] not in by_kind:
            gauge.cell(*sample.labels).set(0)
    for kind, count in by_kind.items():
        gauge.cell(kind).set(count)


def _raise_to(counter: Counter, labels: tuple[str, ...], total: int) -> None:
    cell = counter.cell(*labels)
    cell.add(max(0, total - cell.value))
