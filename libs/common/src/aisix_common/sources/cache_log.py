"""The format of the snapshot cache, as pure functions over bytes: a header, a base, and changes appended to it.

    AISIX-SNAPSHOT-CACHE\\n
    {"version":1,"prefix":"/aisix","sealer":"plain"}\\n
    [length u32][crc32 u32][sealed batch] ...

A batch is one MessagePack array. The base is one or more batches, the last of them marked; a file whose base is not
whole says nothing. After it, each batch of changes stands or falls as a whole, and the first broken one ends the file:
a torn tail loses only the tail. Knows no files and no snapshots' insides but rows.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Final, Literal

import msgspec

from aisix_common.secrets.envelope import CannotOpen
from aisix_common.snapshot import Pin, Snapshot
from aisix_common.store.types import KeyValue, Listing

from .sealing import PLAIN, KeyringSealer, Sealer

MAGIC: Final = b"AISIX-SNAPSHOT-CACHE\n"
VERSION: Final = 1
ROWS_IN_BATCH: Final = 1000
LARGEST_BATCH: Final = 1 << 30
_FRAME: Final = struct.Struct(">II")


class Good(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A last good value that is served in place of a bad row."""

    value: bytes
    create_revision: int
    mod_revision: int
    since: float
    """Seconds since 1970."""


class CachedRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A row as it stood in the source; `value` None: it is gone."""

    key: str
    value: bytes | None
    create_revision: int = 0
    mod_revision: int = 0
    good: Good | None = None


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """Rows written together."""

    part: Literal["base", "base_end", "changes"]
    revision: int
    rows: list[CachedRow]


class Header(msgspec.Struct, frozen=True):
    """The second line of the file."""

    version: int
    prefix: str
    sealer: str


class CacheUnusable(Exception):
    """The file holds nothing that can be served; the message says why, without any of its content."""


class InClear(CacheUnusable):
    """The file holds secrets in clear, although they are to be encrypted."""


@dataclass(frozen=True, slots=True)
class Cached:
    """What a cache held."""

    listing: Listing
    pins: tuple[Pin, ...]
    torn: bool
    """Whether the end of the file was broken, and left out."""


def header(prefix: str, sealer: Sealer) -> bytes:
    """The first two lines."""
    return MAGIC + msgspec.json.encode(Header(VERSION, prefix, sealer.name)) + b"\n"


def record(batch: Batch, number: int, head: bytes, sealer: Sealer) -> bytes:
    """One framed batch; `number` counts from 0 in its file, `head` is the file's header."""
    sealed = sealer.seal(msgspec.msgpack.encode(batch), _context(head, number))
    return _FRAME.pack(len(sealed), zlib.crc32(sealed)) + sealed


def base(snapshot: Snapshot, prefix: str, sealer: Sealer) -> Iterator[bytes]:
    """A whole file for `snapshot`, in pieces."""
    head = header(prefix, sealer)
    yield head
    rows = all_rows(snapshot)
    number = 0
    while len(some := list(islice(rows, ROWS_IN_BATCH))) == ROWS_IN_BATCH:
        yield record(Batch("base", snapshot.revision, some), number, head, sealer)
        number += 1
    yield record(Batch("base_end", snapshot.revision, some), number, head, sealer)


def decode(data: bytes, prefix: str, sealer: Sealer) -> Cached:
    """What the bytes of a file hold. Raises CacheUnusable."""
    head = _checked_header(data, prefix, sealer)
    rows: dict[str, CachedRow] = {}
    complete = False
    revision = 0
    end = len(head)
    for batch, after in _batches(data, head, sealer):
        if complete != (batch.part == "changes"):
            break
        complete = complete or batch.part == "base_end"
        for row in batch.rows:
            if row.value is None:
                rows.pop(row.key, None)
            else:
                rows[row.key] = row
        revision, end = batch.revision, after
    if not complete:
        raise CacheUnusable("it is damaged before its first complete state")
    return Cached(Listing(tuple(_observed(rows.values())), revision), tuple(_pins(rows.values())), end != len(data))


def changed_rows(snapshot: Snapshot, keys: Iterable[str]) -> list[CachedRow]:
    """What a batch of changes says of `keys`."""
    return [_row(snapshot, key) for key in keys]


def all_rows(snapshot: Snapshot) -> Iterator[CachedRow]:
    """Every row that stands in the source."""
    for kind, table in snapshot.tables.items():
        for row_id in table.by_id:
            key = f"{snapshot.prefix}/{kind}/{row_id}"
            if key not in snapshot.rejected:
                yield _row(snapshot, key)
    for key in snapshot.rejected:
        yield _row(snapshot, key)


def _row(snapshot: Snapshot, key: str) -> CachedRow:
    kind, _, row_id = key.removeprefix(snapshot.prefix + "/").partition("/")
    table = snapshot.tables.get(kind)
    entry = table.by_id.get(row_id) if table else None
    bad = snapshot.rejected.get(key)
    if bad is not None:
        good = None
        if entry is not None and bad.stale_since is not None:
            good = Good(entry.raw, entry.create_revision, entry.revision, bad.stale_since.timestamp())
        return CachedRow(key, bad.raw, bad.create_revision, bad.revision, good)
    return CachedRow(key, entry.raw, entry.create_revision, entry.revision) if entry else CachedRow(key, None)


def _observed(rows: Iterable[CachedRow]) -> Iterator[KeyValue]:
    for row in rows:
        yield KeyValue(row.key, row.value or b"", row.create_revision, row.mod_revision)


def _pins(rows: Iterable[CachedRow]) -> Iterator[Pin]:
    for row in rows:
        if (good := row.good) is not None:
            kept = KeyValue(row.key, good.value, good.create_revision, good.mod_revision)
            yield Pin(kept, datetime.fromtimestamp(good.since, UTC))


def _checked_header(data: bytes, prefix: str, sealer: Sealer) -> bytes:
    if not data.startswith(MAGIC):
        raise CacheUnusable("it is no snapshot cache")
    line, newline, _ = data[len(MAGIC) : len(MAGIC) + 65536].partition(b"\n")
    try:
        found = msgspec.json.decode(line, type=Header)
    except (msgspec.MsgspecError, ValueError):
        raise CacheUnusable("its header is damaged") from None
    if found.sealer == PLAIN.name and sealer.name != PLAIN.name:
        raise InClear("it holds secrets in clear, and secrets.keyring is set")
    if found.version != VERSION:
        raise CacheUnusable(f"it has version {found.version}, and this build reads version {VERSION}")
    if found.prefix != prefix:
        raise CacheUnusable("it was written for another etcd prefix")
    if found.sealer == KeyringSealer.name and sealer.name == PLAIN.name:
        raise CacheUnusable("it is encrypted, and secrets.keyring is empty: nothing is known until etcd answers")
    if found.sealer != sealer.name:
        raise CacheUnusable("it was sealed in another way than is configured now")
    return MAGIC + line + newline


def _batches(data: bytes, head: bytes, sealer: Sealer) -> Iterator[tuple[Batch, int]]:
    """Every sound batch and where it ends, up to the first broken one. Raises CacheUnusable if the keyring does not
    even open the first."""
    at = len(head)
    number = 0
    view = memoryview(data)
    while len(data) - at >= _FRAME.size:
        length, checksum = _FRAME.unpack_from(data, at)
        start, at = at + _FRAME.size, at + _FRAME.size + length
        sealed = view[start:at]
        if length > LARGEST_BATCH or len(sealed) != length or zlib.crc32(sealed) != checksum:
            return
        try:
            batch = msgspec.msgpack.decode(sealer.unseal(bytes(sealed), _context(head, number)), type=Batch)
        except CannotOpen as error:
            if number == 0:  # no damage: the checksum is right
                raise CacheUnusable(f"it {error}: nothing is known until etcd answers") from None
            return
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return
        yield batch, at
        number += 1


def _context(head: bytes, number: int) -> bytes:
    return head + str(number).encode()
