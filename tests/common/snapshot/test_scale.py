"""The numbers of design 10, with room for a busy machine."""

import time

from aisix_common.resources import ApiKey, hash_key
from aisix_common.snapshot import apply, build, empty
from aisix_common.store.types import Listing

from .rows import LATER, NOON, PREFIX, api_key, changes

MANY = 50_000


def test_fifty_thousand_keys() -> None:
    rows = tuple(api_key(f"id-{n}", hash_key(str(n)), n + 1, team_id="t", rate_limit={"rpm": 5}) for n in range(MANY))
    began = time.process_time()
    snapshot = build(Listing(rows, MANY), empty(PREFIX), NOON)
    assert time.process_time() - began < 2
    assert len(snapshot.table(ApiKey).by_id) == MANY

    took = []
    for n in range(21):
        began = time.process_time()
        snapshot = apply(snapshot, changes(api_key(f"id-{n}", f"new {n}", MANY + n + 1, created=n + 1)), LATER)
        took.append(time.process_time() - began)
    assert sorted(took)[10] < 0.005
    assert snapshot.table(ApiKey).by_name["new 20"].id == "id-20"

    listed = build(Listing((*rows[MANY // 2 :], *rows[21 : MANY // 2]), 2 * MANY), snapshot, LATER)
    before, after = snapshot.table(ApiKey).by_id, listed.table(ApiKey).by_id
    anew = sum(one is not other for one, other in zip(before.shards(), after.shards(), strict=True))
    assert len(after) == MANY - 21
    assert anew <= 21  # whoever compares the two, on the event loop, looks at these alone
