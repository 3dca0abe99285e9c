"""The snapshot of a running service, read from a resources file: once at start, and again when somebody asks for it.

All or nothing: a file with any problem changes nothing, and what was read last is served on. Knows no signals; decides
nothing about rows (that is `files.loader`).
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from aisix_common.clock import Clock
from aisix_common.files.loader import ResourcesFile, Unusable, read_file
from aisix_common.files.report import FileProblem
from aisix_common.logs import Logger
from aisix_common.snapshot import RejectedRow, Snapshot, build, empty
from aisix_common.store.types import KeyValue, Listing

from .observed import FailureReason, FileView, LastFailure, LastReload, SourceStatus

UNREACHABLE: Final = "configuration source unreachable"


def snapshot_of(file: ResourcesFile, generation: int, previous: Snapshot, now: datetime) -> Snapshot:
    """The snapshot a file makes. `generation` (1 at start, one more for each reload) is every row's revision."""
    rows = tuple(
        KeyValue(f"{previous.prefix}/{row.kind}/{row.id}", row.raw, generation, generation) for row in file.rows
    )
    return build(Listing(rows, generation), previous, now)


@dataclass(slots=True)
class _State:
    """What changes over a source's life, beside its snapshot."""

    generation: int = 0
    status: SourceStatus = field(default_factory=lambda: SourceStatus(type="file", file=FileView()))
    failures: Counter[FailureReason] = field(default_factory=Counter)


class FileSource:
    """One service's view of a resources file. `start` once, then `run`; `reload` and `status` at any time."""

    def __init__(self, path: str, environ: Mapping[str, str], prefix: str, clock: Clock, log: Logger) -> None:
        """`prefix` is what the keys of the snapshot begin with, as if its rows came from etcd."""
        self._path = path
        self._environ = environ
        self._clock = clock
        self._log = log
        self._snapshot = empty(prefix)
        self._state = _State()
        self._wanted = asyncio.Event()

    @property
    def snapshot(self) -> Snapshot:
        """The newest one; empty (`apply_seq` 0) before `start`."""
        return self._snapshot

    def status(self) -> SourceStatus:
        """What is known of the source now."""
        return replace(self._state.status, at=self._clock.now(), failures=dict(self._state.failures))

    async def start(self, on_snapshot: Callable[[Snapshot], None]) -> None:
        """Read the file for the first time and hand its snapshot out. Raises FileRefused."""
        await self._read(on_snapshot)
        self._log.info("resources file read", path=self._path, served=self._snapshot.served)

    def reload(self) -> None:
        """Have the file read again soon; several calls may become one reading. On the event loop."""
        self._wanted.set()

    async def run(self, on_snapshot: Callable[[Snapshot], None]) -> None:
        """Read the file again whenever that is wanted, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._read(on_snapshot)
            except Unusable as error:
                self._refuse(error)
                self._log.warning("the resources file is not used: what was read last is served on", report=str(error))
            except Exception:  # noqa: BLE001 - a mistake of the consumer must not end the flow of changes
                self._log.exception("a new configuration could not be put to use: the one before is served on")
            else:
                self._log.info(
                    "resources file read again",
                    path=self._path,
                    served=self._snapshot.served,
                    generation=self._state.generation,
                )

    async def _read(self, on_snapshot: Callable[[Snapshot], None]) -> None:
        state, previous = self._state, self._snapshot
        file, snapshot = await asyncio.to_thread(self._make, state.generation + 1, previous)
        now = self._clock.now()
        view = state.status.file
        if file.digest != view.served_digest and snapshot.apply_seq == previous.apply_seq:
            # Another file that means the same: its hash is another one, and the two move together.
            snapshot = replace(snapshot, apply_seq=snapshot.apply_seq + 1, applied_at=now)
        state.generation += 1
        state.status = replace(
            state.status,
            file=FileView(served_digest=file.digest, source_digest=file.digest),
            observed_at=now,
            last_reload=LastReload(True, now),
            last_success=now,
            reloads=state.status.reloads + 1,
        )
        self._snapshot = snapshot
        # Compared as a whole, whatever the consumer made of the last one.
        on_snapshot(replace(snapshot, touched=None))

    def _make(self, generation: int, previous: Snapshot) -> tuple[ResourcesFile, Snapshot]:
        file = read_file(self._path, self._environ)
        return file, snapshot_of(file, generation, previous, self._clock.now())

    def _refuse(self, error: Unusable) -> None:
        state, now = self._state, self._clock.now()
        first = error.problems[0]
        unreadable = first.failure == "fetch"
        reasons: set[FailureReason] = {_REASONS.get(problem.failure, "validate") for problem in error.problems}
        state.failures.update(reasons)
        view = state.status.file
        state.status = replace(
            state.status,
            file=FileView(
                served_digest=view.served_digest,
                source_digest=error.digest or view.source_digest,
                failed=True,
                refused=_refused(error, view.refused, now),
            ),
            observed_at=state.status.observed_at if unreadable else now,
            last_reload=LastReload(False, now),
            last_failure=LastFailure(now, first.failure, UNREACHABLE if unreadable else str(first)),
            reloads=state.status.reloads + 1,
        )


_REASONS: Final[Mapping[str, FailureReason]] = {"fetch": "fetch", "non_json": "parse", "parse_failed": "parse"}


def _refused(error: Unusable, before: tuple[RejectedRow, ...], now: datetime) -> tuple[RejectedRow, ...]:
    """The report as rows that are not served, one for each entry; an unreadable file has none."""
    seen = {(row.kind, row.id): row.first_seen for row in before}
    messages: dict[tuple[str, str], list[FileProblem]] = {}
    for problem in error.problems:
        if problem.failure != "fetch":
            messages.setdefault((problem.kind, _shown_id(problem)), []).append(problem)
    return tuple(
        RejectedRow(
            kind=kind,
            id=shown,
            failure=problems[0].failure if problems[0].failure != "fetch" else "non_json",
            message="; ".join(problem.message for problem in problems),
            first_seen=seen.get((kind, shown), now),
            last_seen=now,
            stale_since=None,
            revision=0,
            create_revision=0,
            raw=b"",
        )
        for (kind, shown), problems in messages.items()
    )


def _shown_id(problem: FileProblem) -> str:
    """An entry's name, or its place while it has none."""
    if problem.identity is not None:
        return problem.identity
    return "" if problem.index is None else f"[{problem.index}]"
