"""The projection row and the fence."""

import pytest
from msgspec import json

from aisix_cloud_agent.markers import Fence, Marker, Standing, epoch_key, marker_row, projection_key, standing
from aisix_common.store.types import KeyValue, unchanged

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


def test_a_fence_compares_epoch_and_projection_and_the_keyring_where_something_is_sealed() -> None:
    fence = Fence(epoch=5, projection=0, canary=9)
    both = [unchanged(epoch_key("/run/x"), 5), unchanged("/run/x/projection", 0)]
    assert epoch_key("/run/x") == "/run/x/agent/epoch"
    assert fence.compares("/run/x", sealed=False) == both
    assert fence.compares("/run/x", sealed=True) == [*both, unchanged("/run/x/keyring", 9)]


def test_the_next_fence_knows_what_was_committed() -> None:
    assert Fence(5, 6, 9).after(12) == Fence(5, 12, 9)
