"""Promises are kept in reverse, once, and each on its own."""

from aisix_proxy.pipeline.exits import Exits


def test_in_reverse_and_once() -> None:
    kept: list[int] = []
    exits = Exits()
    for n in range(3):
        exits.push(lambda n=n: kept.append(n))  # type: ignore[misc]
    exits.close()
    exits.close()
    assert kept == [2, 1, 0]


def test_one_that_fails_does_not_keep_the_others_from_running() -> None:
    kept: list[str] = []
    exits = Exits()
    exits.push(lambda: kept.append("first"))
    exits.push(lambda: [][0])
    exits.push(lambda: kept.append("last"))
    exits.close()
    assert kept == ["last", "first"]
