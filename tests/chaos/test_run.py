"""A few kills of each part, with a fixed seed; `make chaos KILLS=200` does more."""

from pathlib import Path

import pytest

from tests.chaos.run import PARTS, chaos


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_nothing_is_lost_by_five_kills_of_each_part(tmp_path: Path) -> None:
    report = await chaos(tmp_path, kills=5 * len(PARTS), seed=20, say=print)
    assert report.problems == [], str(report)
    assert report.accepted > 50, str(report)
