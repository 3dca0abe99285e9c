"""Batches of usage events as rows."""

import zlib

import pytest

from aisix_common.managed.outbox import (
    MOST_BYTES,
    BatchName,
    DamagedBatch,
    batch_key,
    batch_name,
    packed,
    stream_root,
    unpacked,
)

RUN = "/run/aisix"


def test_a_batch_comes_back_as_it_was() -> None:
    events = [b'{"request_id":"a"}', b'{"request_id":"b","x":"\\n"}']
    assert unpacked(packed(events)) == events
    assert unpacked(packed([])) == []


def test_keys_sort_as_numbers_do() -> None:
    names = [BatchName("s-1", number) for number in (0, 9, 10, 123456789012)]
    keys = [batch_key(RUN, name) for name in names]
    assert keys == sorted(keys)
    assert all(key.startswith(stream_root(RUN, "s-1")) for key in keys)
    assert [batch_name(RUN, key) for key in keys] == names


@pytest.mark.parametrize("key", ["/run/aisix/outbox/s/12", "/run/aisix/outbox//" + "0" * 20, "/run/aisix/other", ""])
def test_what_is_no_batch(key: str) -> None:
    assert batch_name(RUN, key) is None


@pytest.mark.parametrize(
    "value", [b"", b"{}", packed([b"{}" * 99])[:-5], zlib.compress(b"x" * (2 * MOST_BYTES + 1))], ids=range(4)
)
def test_what_is_damaged_or_inflates_without_end_is_refused(value: bytes) -> None:
    with pytest.raises(DamagedBatch):
        unpacked(value)
