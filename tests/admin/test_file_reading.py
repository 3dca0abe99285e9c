"""Resources from a file: rows, pages, and the events that keep the index true."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aisix_admin.errors import Unknown
from aisix_admin.file_reading import FileReading, NoEtcd, silence
from aisix_admin.file_rows import FileRows
from aisix_admin.index import ResourceIndex
from aisix_admin.rows import Etcd, Reading, Roots
from aisix_common.errors import StoreUnavailable
from aisix_common.files.layout import row_id
from aisix_common.resources import KINDS
from aisix_common.store.types import Listing, WatchEvent
from aisix_common.tasks import TaskOwner

ROOTS = Roots("/aisix", "/run/aisix", "/ext/aisix")
IDS = sorted(row_id("provider_keys", name) for name in ("a", "b", "c"))


def text(*names: str) -> str:
    entries = "\n".join(f"- {{display_name: {name}, api_key: k}}" for name in names)
    return f'_format_version: "1"\nprovider_keys:\n{entries}\n'


class Noted(FileRows):
    """Notes of every reload whether its file was used."""

    used: list[bool]

    def reload(self) -> bool:
        self.used.append(super().reload())
        return self.used[-1]


def reading(path: Path, *names: str) -> tuple[FileReading, list[bool]]:
    path.write_text(text(*names))
    file = Noted(str(path), {})
    file.used = []
    return FileReading(file, ROOTS, KINDS), file.used


async def _next(events: AsyncIterator[WatchEvent]) -> WatchEvent:
    return await anext(events)


async def test_rows_and_pages_are_those_of_etcd(tmp_path: Path) -> None:
    rows: Reading = reading(tmp_path / "r.yaml", "a", "b", "c")[0]
    assert [row.id for row in await rows.list("provider_keys")] == IDS
    assert [row.id for row in await rows.page("provider_keys", "", 2)] == IDS[:2]
    assert [row.id for row in await rows.page("provider_keys", IDS[1], 2)] == IDS[2:]
    assert [row.id for row in await rows.page("provider_keys", IDS[2], 2)] == []
    assert [row.id for row in await rows.some("provider_keys", [IDS[2], "nobody", IDS[0]])] == [IDS[2], IDS[0]]
    assert await rows.list("models") == ()
    row = await rows.get("provider_keys", IDS[1])
    assert (row.id, row.revision, row.created) == (IDS[1], 1, 0)
    for kind in ("provider_keys", "models"):
        with pytest.raises(Unknown):
            await rows.get(kind, "nobody")


async def test_a_listing_at_the_start_and_after_every_reload_that_is_used(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    rows, used = reading(path, "a", "b")
    index = ResourceIndex("/aisix", KINDS)
    events = rows.events()
    async with TaskOwner() as tasks, asyncio.timeout(10):
        index.apply(await anext(events))
        assert index.listed and index.revision == 1
        assert index.holders("provider_keys", "a") == {row_id("provider_keys", "a")}

        path.write_text("models: 3\n")
        rows.reload()
        coming = tasks.spawn(_next(events), name="next")
        while not used:
            await asyncio.sleep(0.001)
        path.write_text(text("b", "c"))
        rows.reload()
        second = await coming
    assert used == [False, True]
    assert isinstance(second, Listing) and second.revision == 2
    assert {row.mod_revision for row in second.rows} == {2}, "as the rows themselves"
    assert {row.revision for row in await rows.list("provider_keys")} == {2}
    index.apply(second)
    assert index.holders("provider_keys", "a") == frozenset()
    assert index.holders("provider_keys", "c") == {row_id("provider_keys", "c")}


async def test_there_is_no_etcd() -> None:
    nothing: Etcd = NoEtcd()
    for call in (
        nothing.get("k"),
        nothing.range("k"),
        nothing.page("k", limit=1),
        nothing.together([]),
        nothing.txn([], []),
    ):
        with pytest.raises(StoreUnavailable, match="resources come from a file"):
            await call


async def test_what_does_not_exist_says_nothing() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await _next(silence())
