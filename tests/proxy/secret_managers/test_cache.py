"""What is known of a reference: times are told, chance is none, and each step says what is due."""

import math
from collections.abc import Callable
from typing import Final

import pytest

from aisix_common.secret import Secret
from aisix_proxy.secret_managers.base import Away, Fetched, NoSuchSecret, Refused, Unresolved, Unusable
from aisix_proxy.secret_managers.cache import FETCHING, Cache, Known, State, Ticket, Timing

TIMING: Final = Timing(refresh=100, retry=4, stale_max=300, timeout=5)
REF: Final = "$secret://vault/v/a/k"


def made(timing: Timing = TIMING, random: Callable[[], float] = lambda: 0.0) -> Cache:
    return Cache(timing, random)


def only(cache: Cache, now: float) -> Ticket:
    """The one fetch that is due."""
    tickets, _ = cache.turn(now)
    (ticket,) = tickets
    return ticket


def known(cache: Cache, text: str = REF) -> Known:
    found = cache.get(text)
    assert found is not None
    return found


def good(cache: Cache, text: str = "s", now: float = 0, lifetime: float | None = None) -> None:
    cache.want(REF, "vault/v", now)
    cache.had(only(cache, now), Fetched(Secret(text), lifetime), now)


def told(cache: Cache) -> tuple[State, str | None, str]:
    found = known(cache)
    return found.state, found.value.reveal() if found.value is not None else None, found.reason


def test_the_first_fetch() -> None:
    cache = made()
    assert cache.want(REF, "vault/v", 0).state == "pending"
    ticket = only(cache, 0)
    assert ticket.text == REF
    assert cache.turn(1) == ([], {}), "it is under way"
    assert cache.had(ticket, Fetched(Secret("s")), 1)
    assert told(cache) == ("good", "s", "")
    assert cache.next_turn() <= 101
    assert cache.turn(100.9) == ([], {})
    assert only(cache, 101).text == REF


def test_a_fetch_that_takes_too_long_is_waited_for_no_more_but_counts_when_it_ends() -> None:
    cache = made()
    cache.want(REF, "vault/v", 0)
    ticket = only(cache, 0)
    assert cache.turn(5) == ([], {REF: "pending"})
    assert known(cache).state == "failed"
    assert cache.had(ticket, Fetched(Secret("s")), 6)
    assert told(cache) == ("good", "s", "")


@pytest.mark.parametrize(
    ("random", "lifetime", "due"),
    [(0.0, None, 100), (1.0, None, 90), (0.5, None, 95), (0.0, 30, 30), (1.0, 30, 27), (0.0, 5000, 100), (1.0, 0, 1)],
)
def test_when_a_secret_is_fetched_again(random: float, lifetime: float | None, due: float) -> None:
    cache = made(random=lambda: random)
    good(cache, lifetime=lifetime)
    assert known(cache).due == pytest.approx(due)


@pytest.mark.parametrize(
    ("error", "state", "value"),
    [
        (Away("sealed"), "stale", "s"),
        (Refused("403"), "stale", "s"),
        (NoSuchSecret("gone"), "failed", None),
        (Unusable("not allowed"), "failed", None),
    ],
)
def test_a_refresh_that_fails(error: Unresolved, state: State, value: str | None) -> None:
    cache = made()
    good(cache)
    assert cache.failed(only(cache, 100), error, 100) is (state == "failed")
    assert told(cache) == (state, value, str(error))
    assert cache.counts() == {"pending": 0, "good": 0, "stale": 0, "failed": 0} | {state: 1}
    cache.had(only(cache, 104), Fetched(Secret("s2")), 104)
    assert told(cache) == ("good", "s2", "")


def test_a_stale_value_runs_out() -> None:
    cache = made()
    good(cache)
    waits, now = [], 100.0
    while known(cache).state != "failed":
        tickets, over = cache.turn(now)
        for ticket in tickets:
            assert not over
            cache.failed(ticket, Away("no route"), now)
            waits.append(known(cache).due - now)
        now = cache.next_turn()
    assert waits[:6] == [4, 8, 16, 32, 64, 100], "no more seldom than a good one is fetched"
    assert now > 300
    assert told(cache) == ("failed", None, "no route; what was had last is too old to be used")


def test_a_stale_value_is_as_old_as_it_may_be_while_a_fetch_hangs() -> None:
    cache = made()
    good(cache)
    cache.failed(only(cache, 100), Away("no route"), 100)
    ticket = only(cache, 104)
    assert cache.turn(299) == ([], {})
    assert cache.turn(300) == ([], {REF: "stale"})
    assert known(cache).value is None
    assert cache.had(ticket, Fetched(Secret("s")), 301), "it is served again"


@pytest.mark.parametrize(("stale_max", "until"), [(300, 300), (101, 105), (0, 105)])
def test_a_good_value_gets_no_older_while_its_fetch_waits_behind_others_that_hang(stale_max: int, until: int) -> None:
    cache = made(Timing(refresh=100, retry=4, stale_max=stale_max, timeout=5))
    good(cache)
    ticket = only(cache, 100)
    assert cache.turn(until - 1) == ([], {})
    assert told(cache) == ("good", "s", "")
    assert cache.turn(until) == ([], {REF: "good"})
    assert told(cache)[:2] == ("failed", None)
    assert "hang; what was had last is too old" in known(cache).reason
    assert cache.had(ticket, Fetched(Secret("s")), until + 1), "it is served again"
    assert known(cache).until == math.inf


def test_nothing_is_used_on_where_the_setting_says_so() -> None:
    cache = made(Timing(refresh=100, retry=4, stale_max=0, timeout=5))
    good(cache)
    assert cache.failed(only(cache, 100), Away("no route"), 100)
    assert told(cache) == ("failed", None, "no route")


def test_what_could_not_be_had_is_asked_for_again_at_growing_distances() -> None:
    cache, waits, now = made(), [], 0.0
    cache.want(REF, "vault/v", now)
    changed = []
    for _ in range(7):
        changed.append(cache.failed(only(cache, now), NoSuchSecret("no such secret"), now))
        waits.append(known(cache).due - now)
        now = known(cache).due
    assert waits == [4, 8, 16, 32, 60, 60, 60]
    assert changed == [True] + [False] * 6
    assert cache.failed(only(cache, now), NoSuchSecret("no such key"), now), "another reason is news"


def test_equal_values_change_nothing() -> None:
    cache = made()
    good(cache)
    assert not cache.had(only(cache, 100), Fetched(Secret("s")), 100)
    assert cache.had(only(cache, 200), Fetched(Secret("t")), 200)


@pytest.mark.parametrize("keep", [True, False])
def test_a_provider_that_was_changed_is_asked_at_once(keep: bool) -> None:
    cache = made()
    good(cache)
    cache.want("$secret://vault/other/a/k", "vault/other", 0)
    cache.turn(0)
    cache.renew("vault/v", 10, keep=keep)
    assert told(cache) == (("good", "s", "") if keep else ("pending", None, FETCHING))
    ticket = only(cache, 10)
    assert ticket.text == REF
    assert cache.failed(ticket, Away("no route"), 11) is not keep
    assert told(cache) == (("stale", "s", "no route") if keep else ("failed", None, "no route"))


def test_outcomes_of_before_a_change_count_for_nothing() -> None:
    cache = made()
    cache.want(REF, "vault/v", 0)
    old = only(cache, 0)
    cache.renew("vault/v", 1, keep=False)
    new = only(cache, 1)
    assert cache.current(old) is None
    assert not cache.had(old, Fetched(Secret("of the old provider")), 2)
    assert not cache.failed(old, NoSuchSecret("gone"), 2)
    assert known(cache).state == "pending"
    assert cache.had(new, Fetched(Secret("s")), 2)
    cache.forget(REF)
    cache.want(REF, "vault/v", 3)
    assert cache.current(only(cache, 3))


def test_what_nobody_needs_is_forgotten() -> None:
    cache = made()
    good(cache)
    ticket = only(cache, 100)
    cache.forget(REF)
    cache.forget(REF)
    assert (len(cache), cache.get(REF), cache.turn(1000)) == (0, None, ([], {}))
    assert not cache.had(ticket, Fetched(Secret("s")), 1000)
    assert sum(cache.counts().values()) == 0


def test_references_that_no_manager_is_asked_for() -> None:
    cache = made()
    assert cache.settle("$env://A", Secret("s"), 0).state == "good"
    assert cache.settle("$env://B", "is not set", 0).state == "failed"
    assert cache.settle("$secret://vault/a/b", None, 0).state == "pending"
    assert (cache.next_turn(), cache.turn(1e9)) == (math.inf, ([], {}))
    assert cache.counts() == {"pending": 1, "good": 1, "stale": 0, "failed": 1}
    assert [text for text, _ in cache.troubled()] == ["$env://B"]
    assert cache.settle("$env://B", "is not set", 5).since == 0, "the same news is not new"
    assert cache.want("$secret://vault/a/b", "vault/a", 6).provider == "vault/a"
    assert only(cache, 6).text == "$secret://vault/a/b"


def test_outdated_turns_do_not_pile_up() -> None:
    cache = made()
    good(cache)
    for now in range(10_000):
        cache.renew("vault/v", 1 + now / 10_000, keep=True)
    assert len(cache._turns) < 200
    assert only(cache, 3).text == REF


def test_many_references_have_several_turns() -> None:
    """Ten thousand that are due at once, at a start above all, must not hold the loop."""
    cache = made()
    for n in range(1000):
        cache.want(f"{REF}{n}", "vault/v", 0)
    found = []
    while cache.next_turn() <= 0:
        tickets, _ = cache.turn(0)
        assert 0 < len(tickets) <= 256
        found += [ticket.text for ticket in tickets]
    assert len(found) == len(set(found)) == 1000
    over: list[str] = []
    while cache.next_turn() <= 5:
        some = cache.turn(5)[1]
        assert 0 < len(some) <= 256
        over += some
    assert sorted(over) == sorted(found)
