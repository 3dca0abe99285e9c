"""The fence."""

import pytest

from aisix_cloud_agent.projection.markers import Fence, touches
from aisix_common.managed.projected import HERE, Marker, Standing, epoch_key
from aisix_common.store.types import unchanged


def test_a_fence_compares_epoch_and_projection_and_the_keyring_where_something_is_sealed() -> None:
    fence = Fence(epoch=5, projection=0, canary=9)
    both = [unchanged(epoch_key("/run/x"), 5), unchanged("/run/x/projection", 0)]
    assert epoch_key("/run/x") == "/run/x/agent/epoch"
    assert fence.compares("/run/x", sealed=False) == both
    assert fence.compares("/run/x", sealed=True) == [*both, unchanged("/run/x/keyring", 9)]


MARKER = Marker("e", 41, "applying", 42)


def test_the_next_fence_knows_what_was_committed() -> None:
    fence = Fence.at(Standing(Marker("e", 41, "done", began=2, rows=HERE, ext_rows=3), 6), epoch=5, canary=9)
    assert fence == Fence(5, 6, 9, began=2, rows=6, ext_rows=3)
    begun = fence.marked(MARKER, begins=True, rows=False, ext_rows=False)
    assert (begun.began, begun.rows, begun.ext_rows) == (HERE, 6, 3)
    then = fence.after(12, begun)
    assert then == Fence(5, 12, 9, began=12, rows=6, ext_rows=3)
    chunk = then.marked(MARKER, begins=False, rows=True, ext_rows=False)
    assert (chunk.began, chunk.rows, chunk.ext_rows) == (12, HERE, 3)
    assert then.after(13, chunk) == Fence(5, 13, 9, began=12, rows=13, ext_rows=3)


@pytest.mark.parametrize(
    ("keys", "touched"), [([], False), (["/aisix/models/1"], True), (["/aisix2/models/1", "/ext/aisix/x/1"], False)]
)
def test_what_touches_a_root(keys: list[str], touched: bool) -> None:
    assert touches(keys, "/aisix") is touched
