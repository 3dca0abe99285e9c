"""What a list may take away at once."""

import pytest

from aisix_cloud_agent.projection.shrink import ShrinkGuard, Suspicious

CASES = [
    # deletes, of, empty, suspicious
    (0, 0, True, False),
    (0, 100, False, False),
    (9, 10, False, False),
    (10, 10, False, True),
    (10, 33, False, True),
    (10, 34, False, False),
    (30, 100, False, False),
    (31, 100, False, True),
    (1, 1, True, True),
    (9, 9, True, True),
]


def keys(count: int) -> list[str]:
    return [f"/aisix/models/{n}" for n in range(count)]


@pytest.mark.parametrize(("count", "of", "empty", "suspicious"), CASES)
def test_how_much_is_too_much(count: int, of: int, empty: bool, suspicious: bool) -> None:
    judged = ShrinkGuard().judge(keys(count), of, empty=empty, older=False)
    assert (judged is not None) is suspicious
    if judged is not None:
        assert (judged.count, judged.of) == (count, of)
        assert f"{count} of {of}" in judged.message


def test_the_bounds_are_settings() -> None:
    assert ShrinkGuard(share=0.05, at_least=2).judge(keys(2), 30, empty=False, older=False)
    assert ShrinkGuard(share=1).judge(keys(50), 50, empty=True, older=False) is None


def test_a_second_list_that_takes_away_the_same_is_believed() -> None:
    guard = ShrinkGuard()
    first = guard.judge(keys(20), 40, empty=False, older=False)
    assert isinstance(first, Suspicious)
    again = guard.judge(reversed(keys(20)), 40, empty=False, older=False, confirmed=first.digest)
    assert again is None


@pytest.mark.parametrize("count", [21, 19])
def test_one_that_takes_away_others_is_not(count: int) -> None:
    guard = ShrinkGuard()
    first = guard.judge(keys(20), 40, empty=False, older=False)
    assert isinstance(first, Suspicious)
    other = guard.judge(keys(count), 40, empty=False, older=False, confirmed=first.digest)
    assert isinstance(other, Suspicious)
    assert other.digest != first.digest


def test_an_older_cloud_is_suspicious_whatever_it_takes_away() -> None:
    guard = ShrinkGuard()
    first = guard.judge((), 40, empty=False, older=True)
    assert isinstance(first, Suspicious)
    assert "older" in first.message
    assert guard.judge((), 40, empty=False, older=True, confirmed=first.digest) is None
    shrunk = guard.judge(keys(20), 40, empty=False, older=False)
    assert shrunk is not None
    assert guard.judge(keys(20), 40, empty=False, older=True, confirmed=shrunk.digest) is not None
