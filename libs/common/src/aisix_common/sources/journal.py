"""What the log says of configuration: rows that turned bad or good, fields nobody knows, names given twice.

Each once, when it begins: a row that stays bad is on the status page, not in every tenth line. Bounded, because whoever
writes rows chooses their number.
"""

from collections.abc import Iterable
from typing import Final

from aisix_common.logs import Logger
from aisix_common.snapshot import Snapshot

from .status import unknown_fields

LINES_AT_ONCE: Final = 20
MOST_FIELDS: Final = 1000


class Journal:
    """Tells the log what is new in each snapshot."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._fields: set[tuple[str, str]] = set()

    def record(self, before: Snapshot, after: Snapshot, keys: Iterable[str] | None) -> None:
        """`keys` are what may have changed; None: anything."""
        self._rejections(before, after, list({*before.rejected, *after.rejected} if keys is None else keys))
        changed = [name for name, table in after.tables.items() if table is not before.tables[name]]
        if any(after.tables[name].unknown is not before.tables[name].unknown for name in changed):
            self._unknown(after)
        for name in changed:
            if after.tables[name].contested is not before.tables[name].contested:
                self._shadowed(name, before, after)

    def _rejections(self, before: Snapshot, after: Snapshot, keys: list[str]) -> None:
        fresh = [row for key in keys if (row := after.rejected.get(key)) and _news(before, key, row.message)]
        for row in fresh[:LINES_AT_ONCE]:
            self._log.error(
                "a resource was rejected" + (": its last good value is served" if row.stale_since else ""),
                kind=row.kind,
                id=row.id,
                failure=row.failure,
                reason=row.message,
            )
        if len(fresh) > LINES_AT_ONCE:
            self._log.error("more resources were rejected: see /status/config", count=len(fresh) - LINES_AT_ONCE)
        well = [before.rejected[key] for key in keys if key in before.rejected and key not in after.rejected]
        for row in well[:LINES_AT_ONCE]:
            self._log.info("a resource is no longer rejected", kind=row.kind, id=row.id)
        if len(well) > LINES_AT_ONCE:
            self._log.info("more resources are no longer rejected", count=len(well) - LINES_AT_ONCE)

    def _unknown(self, after: Snapshot) -> None:
        for (kind, path), count in sorted(unknown_fields(after).items()):
            if (kind, path) not in self._fields and len(self._fields) < MOST_FIELDS:
                self._fields.add((kind, path))
                self._log.warning("a field nobody knows is ignored", kind=kind, field=path, rows=count)

    def _shadowed(self, name: str, before: Snapshot, after: Snapshot) -> None:
        known = set(before.tables[name].shadowed())
        fresh = [pair for pair in after.tables[name].shadowed() if pair not in known]
        for row_id, winner in fresh[:LINES_AT_ONCE]:
            self._log.warning("a row's name belongs to an older row", kind=name, id=row_id, older=winner)


def _news(before: Snapshot, key: str, message: str) -> bool:
    known = before.rejected.get(key)
    return known is None or known.message != message
