"""What is told of references: counts, troubles with their times, and one line of log for many."""

from datetime import timedelta

from aisix_common.secret import Secret
from aisix_proxy.secret_managers.base import Away, Fetched, NoSuchSecret
from aisix_proxy.secret_managers.cache import Cache, Timing
from aisix_proxy.secret_managers.report import MOST_LISTED, News, report

from tests.common.snapshot.rows import NOON
from tests.common.sources.support import Log

TIMING = Timing(refresh=100, retry=4, stale_max=300, timeout=5)


def text(name: str) -> str:
    return f"$secret://vault/v/{name}/key"


def test_counts_and_troubles() -> None:
    cache = Cache(TIMING, lambda: 0.0)
    for name in ("good", "stale", "gone"):
        cache.want(text(name), "vault/v", 1000)
    for ticket in cache.turn(1000)[0]:
        cache.had(ticket, Fetched(Secret(f"secret of {ticket.text}")), 1000)
    for ticket in cache.turn(1100)[0]:
        if ticket.text == text("stale"):
            cache.failed(ticket, Away("is sealed"), 1100)
        elif ticket.text == text("gone"):
            cache.failed(ticket, NoSuchSecret("no such secret"), 1100)
    told = report(cache, 1110, NOON).document()
    assert told == {
        "pending": 0,
        "resolved": 1,
        "stale": 1,
        "failed": 1,
        "references": [
            {
                "reference": text("stale"),
                "state": "stale",
                "reason": "is sealed",
                "since": "2030-01-01T11:59:50Z",
                "used_until": "2030-01-01T12:03:10Z",
            },
            {
                "reference": text("gone"),
                "state": "failed",
                "reason": "no such secret",
                "since": "2030-01-01T11:59:50Z",
            },
        ],
    }
    assert report(cache, 1110, NOON).troubles[0].since == NOON - timedelta(seconds=10)


def test_lists_and_texts_are_bounded() -> None:
    cache = Cache(TIMING, lambda: 0.0)
    for n in range(100):
        cache.settle(f"$secret://vault/{n}" + "x" * 1000, "no secret conf", 0)
    told = report(cache, 0, NOON)
    assert len(told.troubles) == MOST_LISTED
    assert told.counts["failed"] == 100
    assert max(len(trouble.reference) for trouble in told.troubles) < 300


def test_many_changes_are_one_line() -> None:
    log, cache = Log(), Cache(TIMING, lambda: 0.0)
    news = News(log.log)
    for n in range(50):
        known = cache.want(text(str(n)), "vault/v", 0)
        news.note(text(str(n)), known, "pending", 0)
    for ticket in cache.turn(0)[0]:
        cache.had(ticket, Fetched(Secret("s")), 0)
        news.note(ticket.text, cache.want(ticket.text, "vault/v", 0), "pending", 0)
    news.tell()
    assert log.lines == [], "that a secret is had at first is no news"
    for ticket in cache.turn(100)[0]:
        cache.failed(ticket, Away("is sealed"), 100)
        news.note(ticket.text, cache.want(ticket.text, "vault/v", 100), "good", 100)
    assert news.due == 101
    news.tell()
    (line,) = log.lines
    assert line["log_level"] == "warning"
    assert (line["references"], line["first"], line["reason"]) == (50, text("0"), "is sealed")
