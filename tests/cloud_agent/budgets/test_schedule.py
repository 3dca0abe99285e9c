"""Who is asked for next."""

from itertools import pairwise

from aisix_cloud_agent.budgets.schedule import LONGEST_SECONDS, BudgetSchedule
from aisix_common.managed.budgets import FRESH_SECONDS


class Kit:
    def __init__(self) -> None:
        self.in_use: set[str] = set()
        self.decided: set[str] = set()
        self.schedule = BudgetSchedule(self.in_use, lambda key: key in self.decided)

    def came(self, *keys: str, now: float = 0.0) -> None:
        self.in_use.update(keys)
        self.schedule.came(keys, now)

    def take(self, now: float) -> list[str]:
        """All that are due, taken."""
        taken = []
        while (following := self.schedule.next(now)) is not None:
            self.schedule.take(following[0], now)
            taken.append(following[0])
        return taken

    def done(self, *keys: str, now: float, failed: bool = False) -> None:
        for key in keys:
            if not failed:
                self.decided.add(key)
            self.schedule.done(key, now, failed=failed)


def test_a_key_in_use_is_asked_for_every_five_seconds_and_no_more_often() -> None:
    kit = Kit()
    kit.came("a", now=0.0)
    asked = []
    for tenth in range(600):
        now = tenth / 10
        if kit.take(now):
            asked.append(now)
            kit.done("a", now=now + 0.05)
        kit.came("a", now=now)
    assert asked == [FRESH_SECONDS * n for n in range(12)]


def test_new_keys_come_first_then_those_without_a_decision_then_the_longest_due() -> None:
    kit = Kit()
    kit.came("old-2", "old-1", "failed", now=0.0)
    assert kit.take(0.0) == ["old-2", "old-1", "failed"], "in the order they came"
    kit.done("old-1", "old-2", now=0.1)
    kit.done("failed", now=0.1, failed=True)
    assert kit.schedule.next_due() == FRESH_SECONDS
    kit.came("new", now=6.0)
    assert kit.schedule.next(6.0) == ("new", True)
    assert kit.schedule.next_due() == float("-inf")
    assert kit.take(6.0) == ["new", "failed", "old-1", "old-2"]


def test_a_key_that_comes_back_within_five_seconds_waits_and_later_is_due_at_once() -> None:
    kit = Kit()
    kit.came("a", now=0.0)
    kit.take(0.0)
    kit.done("a", now=0.1)
    kit.in_use.clear()
    kit.came("a", now=2.0)
    assert kit.take(4.9) == []
    assert kit.take(5.0) == ["a"]
    kit.done("a", now=5.1)
    kit.in_use.clear()
    assert kit.take(20.0) == [], "nobody needs it"
    kit.came("a", now=21.0)
    assert kit.schedule.next(21.0) == ("a", False)


def test_a_key_that_has_a_decision_of_a_former_leader_is_due_at_once_but_not_new() -> None:
    kit = Kit()
    kit.decided.add("a")
    kit.came("a", now=0.0)
    assert kit.schedule.next(0.0) == ("a", False)


def test_a_key_that_is_asked_for_right_now_is_not_asked_for_again() -> None:
    kit = Kit()
    kit.came("a", now=0.0)
    kit.take(0.0)
    kit.came("a", now=0.0)
    assert kit.take(30.0) == []
    kit.done("a", now=30.0)
    assert kit.take(30.0) == ["a"], "a slow answer was long due"


def test_a_key_without_answers_is_asked_for_ever_more_rarely_to_a_minute() -> None:
    kit = Kit()
    kit.came("a", now=0.0)
    asked = []
    for second in range(400):
        if kit.take(second):
            asked.append(second)
            kit.done("a", now=second, failed=True)
    assert [later - sooner for sooner, later in pairwise(asked)][:6] == [5, 10, 20, 40, LONGEST_SECONDS, 60]
    assert kit.take(460.0) == ["a"]
    kit.done("a", now=460.0)
    assert kit.schedule.next_due() == 465.0, "well again"


def test_keys_that_are_gone_are_forgotten() -> None:
    kit = Kit()
    kit.came(*(f"k{n}" for n in range(100)), now=0.0)
    for key in kit.take(0.0)[:50]:
        kit.done(key, now=0.1)
    kit.came("never", now=0.1)
    kit.in_use.clear()
    kit.schedule.tidy(0.2)
    assert kit.schedule.next_due() == float("inf")
    kit.came("k0", "never", now=0.3)
    assert kit.take(0.3) == ["never"], "k0 was asked for just now"
    assert kit.take(5.0) == ["k0"]
