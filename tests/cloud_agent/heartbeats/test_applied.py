"""Local revisions told as revisions of the Cloud."""

import pytest

from aisix_cloud_agent.heartbeats.applied import MOST_MARKERS, Applied, applied_then
from aisix_common.managed.projected import HERE, NOTHING, Marker, Standing, State

ENV, OTHER = "0b7e7f2e-5c0b-4c3e-9d5b-1f0a2c3d4e5f", "9d2e61b0-44af-4be1-a0f7-88d393aa20f7"


def at(revision: int, cloud: int, *, rows: int = HERE, ext: int = 0, state: State = "done", env: str = ENV) -> Standing:
    return Standing(Marker(env, cloud, state, 0 if state == "done" else cloud + 1, 0, rows, ext), revision)


def known(*standings: Standing) -> Applied:
    applied = Applied()
    for each in standings:
        applied.take(each)
    return applied


THREE = known(at(10, 41), at(12, 42, rows=10, ext=HERE), at(15, 43, ext=12), at(16, 44, rows=15, ext=12))
"""41 changed resources, 42 the ext root, 43 resources again, 44 nothing that is projected."""


@pytest.mark.parametrize(
    ("applied", "external", "revision"),
    [
        (0, 0, 0),  # nothing at all
        (0, 99, 0),
        (9, 0, None),  # older than what is known
        (10, 0, 41),
        (14, 11, 41),  # the ext root is behind
        (10, 12, 42),
        (14, 99, 42),
        (15, 11, 41),
        (15, 12, 44),  # what changed no rows is applied with what was before it
        (99, 99, 44),
    ],
)
def test_the_newest_that_both_roots_have_reached(applied: int, external: int, revision: int | None) -> None:
    assert THREE.of(applied, external) == revision


def test_what_is_on_its_way_does_not_count() -> None:
    applied = known(at(10, 41), at(12, 41, state="applying"), at(13, 41, state="applying"))
    assert applied.of(13, 0) == 41
    applied.take(at(14, 42, rows=13))
    assert (applied.of(12, 0), applied.of(13, 0)) == (41, 42)
    assert known(at(12, 41, state="applying")).of(12, 0) is None  # the past has to be asked


def test_rows_that_were_never_written_are_applied_by_whoever_has_looked() -> None:
    assert known(at(10, 41, rows=0)).of(3, 0) == 41
    assert known(at(10, 41, rows=0)).of(0, 0) == 0


@pytest.mark.parametrize("gone", [NOTHING, Standing(None, 20), at(20, 7, env=OTHER)])
def test_rows_of_nobody_or_of_another_environment(gone: Standing) -> None:
    applied = known(at(10, 41), gone)
    assert applied.of(15, 0) in (0, None)
    assert applied.env_id == (gone.marker.env_id if gone.marker else "")
    applied.take(at(30, 42))
    assert (applied.of(15, 0), applied.of(30, 0)) == (None, 42)


def test_a_list_begins_anew() -> None:
    applied = known(at(10, 41), at(500, 90))
    applied.begin(at(20, 45))
    assert (applied.of(10, 0), applied.of(20, 0), applied.of(600, 0)) == (None, 45, 45)
    applied.begin(NOTHING)
    assert applied.of(600, 0) == 0


def test_it_is_bounded() -> None:
    applied = known(*(at(n, n) for n in range(1, 2000)))
    assert applied.of(1999 - MOST_MARKERS, 0) is None
    assert applied.of(2000 - MOST_MARKERS, 0) == 2000 - MOST_MARKERS
    quiet = known(*(at(n, n, rows=5) for n in range(5, 5000)))
    assert quiet.of(5, 0) == 4999


@pytest.mark.parametrize(
    ("standing", "revision"),
    [
        (at(10, 41), 41),
        (at(10, 41, state="applying"), 41),  # the one before was projected as a whole
        (at(10, 41, ext=8), 41),
        (at(10, 41, ext=9), None),
        (at(11, 41), None),
        (at(10, 41, env=OTHER), 0),
        (NOTHING, 0),
        (Standing(None, 5), 0),
    ],
)
def test_by_the_row_as_it_was(standing: Standing, revision: int | None) -> None:
    assert applied_then(standing, ENV, 10, 8) == revision
