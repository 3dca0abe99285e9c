"""The projection row."""

import pytest
from msgspec import json

from aisix_common.managed.projected import HERE, Marker, Standing, marker_row, projection_key, standing
from aisix_common.store.types import KeyValue

ROWS = [
    (Marker("e", 41, "done"), {"env_id": "e", "cloud_revision": 41, "state": "done"}),
    (Marker("e", 41, "applying", 42), {"env_id": "e", "cloud_revision": 41, "state": "applying", "target": 42}),
]


@pytest.mark.parametrize(("marker", "document"), ROWS)
def test_the_row(marker: Marker, document: object) -> None:
    row = marker_row(marker)
    assert json.decode(row) == document
    assert standing(KeyValue(projection_key("/run/aisix"), row, 3, 7)) == Standing(marker, 7)


def test_no_row_is_one_of_nobody() -> None:
    assert standing(None) == Standing(None, 0)


@pytest.mark.parametrize("value", [b"", b"{}", b"[", b'{"env_id":"e","cloud_revision":1,"state":"half"}', b"\xff"])
def test_a_damaged_row_is_one_of_nobody_and_still_compared(value: bytes) -> None:
    assert standing(KeyValue("/run/aisix/projection", value, 3, 7)) == Standing(None, 7)


APPLYING = Marker("e", 41, "applying", 42, began=HERE)
DONE = Marker("e", 42, "done", began=10, rows=14, ext_rows=12)


@pytest.mark.parametrize(
    ("marker", "revision", "external", "torn"),
    [
        (APPLYING, 9, False, True),
        (DONE, 9, False, False),  # before it began: the revision before, as a whole
        (DONE, 10, False, True),
        (DONE, 13, False, True),
        (DONE, 14, False, False),
        (DONE, 11, True, True),
        (DONE, 12, True, False),
        (Marker("e", 43, "done", rows=HERE), 14, False, False),
        (None, 14, False, False),
    ],
)
def test_rows_are_torn_from_the_beginning_of_a_projection_to_its_last_rows(
    marker: Marker | None, revision: int, external: bool, torn: bool
) -> None:
    assert Standing(marker, 15).torn(revision, external=external) is torn


def test_here_is_the_revision_of_the_row() -> None:
    there = Standing(Marker("e", 43, "done", began=HERE, rows=HERE, ext_rows=7), 15)
    assert (there.began, there.rows(external=False), there.rows(external=True)) == (15, 15, 7)
