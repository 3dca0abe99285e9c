"""What is told of usage events that wait."""

from tests.proxy.managed.events import Counted


def test_all_is_there_at_zero_from_the_first_scrape() -> None:
    counted = Counted()
    (drops,) = (family for family in counted.metrics.collect() if family.name == "aisix_usage_event_drops_total")
    assert [(*sample.labels, sample.value) for sample in drops.samples] == [
        ("journal_full", 0),
        ("journal_failed", 0),
        ("expired", 0),
        ("torn", 0),
    ]
    counted.usage.dropped("torn", 3)
    assert counted.dropped() == {"torn": 3}


def test_numbers_are_read_when_somebody_scrapes() -> None:
    counted = Counted()
    counted.usage.follow(lambda: 5, lambda: 1.5)
    assert counted.value("aisix_usage_journal_bytes") == 5
    assert counted.value("aisix_usage_journal_oldest_seconds") == 1.5
