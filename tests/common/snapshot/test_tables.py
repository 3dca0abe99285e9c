"""The values of a snapshot: empty at first, closed to strangers, silent about content."""

import pytest

from aisix_common.resources import KINDS, PROVIDER_KEYS, ProviderKey, RateLimit
from aisix_common.snapshot import build, empty

from .rows import NOON, PREFIX, listing, row


def test_the_empty_snapshot_has_every_table() -> None:
    snapshot = empty(PREFIX + "/")
    assert snapshot.prefix == PREFIX
    assert snapshot.table(ProviderKey) is snapshot.table(PROVIDER_KEYS)
    assert all(len(snapshot.table(kind).by_id) == 0 for kind in KINDS)
    assert (snapshot.served, snapshot.apply_seq, snapshot.revision) == (0, 0, 0)


def test_what_is_no_kind_has_no_table() -> None:
    with pytest.raises(KeyError):
        empty(PREFIX).table(RateLimit)


def test_a_repr_shows_no_content() -> None:
    key = row("provider_keys/k", b'{"display_name":"pk","api_key":"sk-canary"}', 1)
    snapshot = build(listing(key, row("models/x", b'"sk-canary"', 2)), empty(PREFIX), NOON)
    assert snapshot.table(ProviderKey).by_id["k"].value.api_key.reveal() == "sk-canary"
    assert "sk-canary" not in repr(snapshot)
    assert "sk-canary" not in repr([*snapshot.table(ProviderKey).by_id.values(), *snapshot.rejected.values()])
