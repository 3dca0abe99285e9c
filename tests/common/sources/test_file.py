"""A resources file as a source: at start, again, refused, unreadable; and what the status page says of each."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aisix_common.clock import SYSTEM_CLOCK
from aisix_common.files.layout import row_id
from aisix_common.files.report import FileRefused
from aisix_common.logs import get_logger
from aisix_common.resources import PROVIDER_KEYS, Rejected
from aisix_common.snapshot import Overlay, Snapshot, build, config_hash, empty
from aisix_common.sources.file import UNREACHABLE, FileSource
from aisix_common.sources.status import config_numbers, config_status
from aisix_common.tasks import TaskOwner

from tests.common.snapshot.rows import NOON, listing
from tests.common.snapshot.sealed import OLD, sealed_row

GOOD = '_format_version: "1"\nprovider_keys:\n- {display_name: one, api_key: sk-canary}\n'
BAD = GOOD + "- {display_name: two, apikey: sk-canary}\n- 3\nmodels: [{display_name: m, timeout: 1.0}]\n"


class Followed:
    """A source and all it handed out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = FileSource(str(path), {}, "/aisix", SYSTEM_CLOCK, get_logger("test"))
        self.snapshots: list[Snapshot] = []
        self.fail = False

    def take(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)
        if self.fail:
            raise RuntimeError("a consumer's mistake")

    async def reload(self, text: str | None) -> None:
        """Write `text` (None: no file at all), have it read, and wait until it was."""
        before = self.source.status().reloads
        self.path.unlink() if text is None else self.path.write_text(text)
        self.source.reload()
        async with asyncio.timeout(10):
            while self.source.status().reloads == before:
                await asyncio.sleep(0.005)

    def page(self) -> dict[str, Any]:
        return config_status(self.source.snapshot, self.source.status())


@asynccontextmanager
async def following(path: Path) -> AsyncIterator[Followed]:
    path.write_text(GOOD)
    followed = Followed(path)
    async with TaskOwner() as tasks:
        await followed.source.start(followed.take)
        task = tasks.spawn(followed.source.run(followed.take), name="source")
        yield followed
        task.cancel()


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def test_a_file_is_served_as_if_it_came_from_etcd(tmp_path: Path) -> None:
    async with following(tmp_path / "r.yaml") as followed:
        (snapshot,) = followed.snapshots
        assert snapshot is not followed.source.snapshot or snapshot.touched is None
        entry = snapshot.tables["provider_keys"].by_id[row_id("provider_keys", "one")]
        assert (entry.revision, snapshot.revision, snapshot.apply_seq) == (1, 1, 1)
        page = followed.page()
        assert page["state"] == "synced"
        assert set(page["source"]) == {"type", "source_hash", "observed_at"}
        assert page["source"]["type"] == "file"
        assert page["source"]["source_hash"] == page["applied"]["config_hash"] == digest(GOOD)
        assert "applied_revision" not in page["applied"]
        assert page["applied"]["resource_counts"] == {"provider_keys": 1}
        assert page["last_reload"]["successful"] is True
        assert page["last_failure"] is None
        numbers = config_numbers(followed.source.snapshot, followed.source.status())
        assert (numbers.reloads_total, numbers.last_reload_successful) == (1, 1)
        assert numbers.observed_revision is numbers.applied_revision is numbers.source_connected is None


async def test_its_rows_have_the_hash_that_they_have_in_etcd(tmp_path: Path) -> None:
    """What `/status/config` tells of a file is the digest of its bytes; this is what the two have in common."""
    async with following(tmp_path / "r.yaml") as followed:
        snapshot = followed.source.snapshot
        id = row_id("provider_keys", "one")
        stored = sealed_row("provider_keys", id, {"display_name": "one", "api_key": "sk-canary"}, 1, OLD)
        assert config_hash(snapshot) == config_hash(build(listing(stored), empty("/aisix"), NOON, OLD))


async def test_reading_again(tmp_path: Path) -> None:
    async with following(tmp_path / "r.yaml") as followed:
        await followed.reload(GOOD.replace("one", "uno"))
        first, second = followed.snapshots
        assert set(second.tables["provider_keys"].by_name) == {"uno"}
        assert {entry.revision for entry in second.tables["provider_keys"].by_id.values()} == {2}
        assert set(first.tables["provider_keys"].by_name) == {"one"}, "a snapshot that was captured stays"
        assert second.apply_seq == 2
        await followed.reload("# a note\n" + GOOD.replace("one", "uno"))
        assert followed.source.snapshot.apply_seq == 3, "the hash is another one, and the two move together"
        await followed.reload("# a note\n" + GOOD.replace("one", "uno"))
        assert followed.source.snapshot.apply_seq == 3


async def test_references_in_a_file(tmp_path: Path) -> None:
    known = [Rejected("secret_unresolved", "leads nowhere")]
    text = GOOD.replace("sk-canary", "$env://AISIX_SECRET_ONE") + "- {display_name: two, api_key: sk-canary}\n"
    overlay = Overlay("/aisix")
    async with following(tmp_path / "r.yaml") as followed:
        served = overlay.apply(followed.snapshots[-1], lambda kind, entry: known[-1], {}, NOON)
        assert served is followed.snapshots[-1]
        for reading in (text, "# a note\n" + text):
            await followed.reload(reading)
            before, served = served, overlay.apply(followed.snapshots[-1], lambda kind, entry: known[-1], {}, NOON)
            assert set(served.table(PROVIDER_KEYS).by_name) == {"two"}
            assert served.touched is None
            assert served.apply_seq == before.apply_seq + 1, "as the file's hash does"
        await followed.reload(GOOD)
        served = overlay.apply(followed.snapshots[-1], lambda kind, entry: known[-1], {}, NOON)
        assert set(served.table(PROVIDER_KEYS).by_name) == {"one"}


async def test_a_refused_file_changes_nothing_and_is_told(tmp_path: Path) -> None:
    async with following(tmp_path / "r.yaml") as followed:
        await followed.reload(BAD)
        assert len(followed.snapshots) == 1
        page = followed.page()
        assert page["state"] == "out_of_sync"
        assert page["source"]["source_hash"] == digest(BAD)
        assert page["applied"]["config_hash"] == digest(GOOD)
        assert page["last_reload"]["successful"] is False
        assert [(row["resource_kind"], row["resource_id"], row["last_error_kind"]) for row in page["rejected"]] == [
            ("models", "m", "parse_failed"),
            ("provider_keys", "[2]", "schema_failed"),
            ("provider_keys", "two", "schema_failed"),
        ]
        assert page["last_failure"]["last_error_kind"] == "schema_failed"
        assert page["last_failure"]["last_error"].startswith('provider_keys[1] ("two"): ')
        assert "canary" not in repr(page)
        numbers = config_numbers(followed.source.snapshot, followed.source.status())
        assert numbers.reload_failures_total == {"fetch": 0, "parse": 1, "validate": 1}
        assert numbers.rejected_resources["provider_keys"] == 2
        seen = {row["resource_id"]: row["first_seen_at"] for row in page["rejected"]}
        await followed.reload(BAD)
        assert {row["resource_id"]: row["first_seen_at"] for row in followed.page()["rejected"]} == seen

        await followed.reload("a: [")
        (row,) = followed.page()["rejected"]
        assert (row["resource_kind"], row["resource_id"], row["last_error_kind"]) == ("", "", "non_json")

        await followed.reload(GOOD)
        page = followed.page()
        assert (page["state"], page["rejected"]) == ("synced", [])
        assert page["last_failure"]["last_error_kind"] == "non_json", "stays until the process ends"


async def test_a_file_that_is_gone(tmp_path: Path) -> None:
    async with following(tmp_path / "r.yaml") as followed:
        await followed.reload(None)
        page = followed.page()
        assert page["state"] == "out_of_sync"
        assert page["source"]["source_hash"] == digest(GOOD)
        assert page["rejected"] == []
        assert page["last_failure"]["last_error_kind"] == "fetch"
        assert page["last_failure"]["last_error"] == UNREACHABLE
        numbers = config_numbers(followed.source.snapshot, followed.source.status())
        assert numbers.reload_failures_total["fetch"] == 1


async def test_a_consumers_mistake_does_not_end_the_reading(tmp_path: Path) -> None:
    async with following(tmp_path / "r.yaml") as followed:
        followed.fail = True
        await followed.reload(GOOD.replace("one", "two"))
        followed.fail = False
        await followed.reload(GOOD.replace("one", "three"))
        assert set(followed.snapshots[-1].tables["provider_keys"].by_name) == {"three"}
        assert followed.snapshots[-1].touched is None


async def test_no_start_without_a_sound_file(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(BAD)
    followed = Followed(path)
    with pytest.raises(FileRefused, match=r"3 error\(s\):"):
        await followed.source.start(followed.take)
    assert followed.page()["state"] == "never_loaded"
