"""Ranges and values, without etcd."""

import pytest

from aisix_common.store import etcd_pb2 as pb
from aisix_common.store.messages import after_prefix, change, row, span
from aisix_common.store.types import Deleted, KeyValue


@pytest.mark.parametrize(
    ("prefix", "end"),
    [(b"/a/", b"/a0"), (b"a\xff", b"b"), (b"\xff\xff", b"\0"), (b"", b"\0"), (b"\x00", b"\x01")],
)
def test_the_end_of_a_prefix(prefix: bytes, end: bytes) -> None:
    assert after_prefix(prefix) == end


def test_span() -> None:
    assert span("/a", prefix=False) == (b"/a", b"")
    assert span("/a", prefix=True) == (b"/a", b"/b")
    assert span("", prefix=True) == (b"\0", b"\0"), "everything"


def test_rows_and_changes() -> None:
    kv = pb.KeyValue(key="/ü".encode(), value=b"\xff", create_revision=1, mod_revision=3, version=2, lease=9)
    expected = KeyValue("/ü", b"\xff", 1, 3, 2, 9)
    assert row(kv) == change(pb.Event(kv=kv)) == expected
    gone = pb.Event(type=pb.Event.DELETE, kv=pb.KeyValue(key=b"/a", mod_revision=4))
    assert change(gone) == Deleted("/a", 4)
    assert row(pb.KeyValue(key=b"/\xff")).key == "/\ufffd", "keys that are no text are read lossily"
