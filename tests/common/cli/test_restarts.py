"""Pauses that grow, and the end of trouble."""

from aisix_common.cli.restarts import FIRST_SECONDS, MOST_SECONDS, STEADY_SECONDS, Pace


def ends(pace: Pace, *ran: float) -> list[float]:
    """The pauses after lives of these lengths."""
    now, pauses = 100.0, []
    for seconds in ran:
        pace.started(now)
        now += seconds
        pace.ended(now)
        begin = now
        while not pace.due(now):
            now += 0.5
        pauses.append(now - begin)
    return pauses


def test_pauses_grow_up_to_a_bound_and_begin_anew_after_a_long_life() -> None:
    assert ends(Pace(), *[0.1] * 8) == [1, 2, 4, 8, 16, 32, MOST_SECONDS, MOST_SECONDS]
    assert ends(Pace(), 0, 0, STEADY_SECONDS - 1, STEADY_SECONDS, 0) == [1, 2, 4, FIRST_SECONDS, 2]


def test_a_start_that_fails_is_an_end() -> None:
    pace = Pace()
    pace.started(0)
    pace.ended(1)
    assert pace.due(2)
    pace.ended(2 + STEADY_SECONDS)  # could not be started, however late that was tried: it was not well meanwhile
    assert not pace.due(2 + STEADY_SECONDS + 1.9)
    assert pace.due(2 + STEADY_SECONDS + 2)


def test_trouble_is_over_once() -> None:
    pace = Pace()
    pace.started(0)
    assert not pace.troubled and not pace.recovered(1000)
    pace.ended(1000)
    assert pace.troubled and pace.waiting
    assert not pace.recovered(2000), "it does not run"
    pace.started(2000)
    assert not pace.recovered(2000 + STEADY_SECONDS - 1)
    assert pace.recovered(2000 + STEADY_SECONDS)
    assert not pace.recovered(2000 + STEADY_SECONDS)
    assert not pace.troubled


def test_what_was_given_up_is_not_started() -> None:
    pace = Pace()
    pace.started(0)
    pace.ended(1)
    pace.give_up()
    assert not pace.waiting
    assert not pace.due(1000)
