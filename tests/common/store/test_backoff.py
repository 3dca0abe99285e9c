"""Delays: doubling, bounded, jittered, reset."""

import random

from aisix_common.store.backoff import Backoff


def test_delays_double_up_to_the_longest_and_start_over() -> None:
    backoff = Backoff(0.1, 2.0, random.Random(1))
    delays = [backoff.delay() for _ in range(8)]
    for delay, bound in zip(delays, [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0], strict=True):
        assert bound / 2 <= delay <= bound
    assert len({delay / bound for delay, bound in zip(delays[-3:], [2.0] * 3, strict=True)}) == 3, "jittered"
    backoff.reset()
    assert backoff.delay() <= 0.1
