"""The rows of a resources file, for reading: what the admin serves where there is no etcd. Knows no HTTP, no signals.

All or nothing, as the proxy reads it (`aisix_common.files`): a file with any problem leaves the rows as they were.
"""

import threading
from collections.abc import Mapping
from typing import Final

from aisix_common.files.loader import ResourcesFile, read_file
from aisix_common.files.report import FileRefused
from aisix_common.logs import get_logger

from .rows import Row

_log: Final = get_logger(__name__)


class FileRows:
    """The rows of the file at `path`. Reads come from memory; `reload` may run in a thread beside them."""

    def __init__(self, path: str, environ: Mapping[str, str]) -> None:
        """Read the file for the first time. Blocks. Raises FileRefused with the whole report."""
        self.path: Final = path
        self._environ = environ
        self._turns = threading.Lock()
        self._generation = 1
        self._rows = _by_kind(read_file(path, environ), 1)

    def reload(self) -> bool:
        """Read the file again, and log how that went; whether it is used. Blocks: on an event loop call it with
        `asyncio.to_thread`."""
        with self._turns:
            try:
                file = read_file(self.path, self._environ)
            except FileRefused as error:
                _log.warning("the resources file is not used: what was read last is served on", report=str(error))
                return False
            self._generation += 1
            self._rows = _by_kind(file, self._generation)
            _log.info("resources file read again", path=self.path, generation=self._generation)
            return True

    def list(self, kind: str) -> tuple[Row, ...]:
        """All rows of a kind, in the order of their ids."""
        return tuple(self._rows.get(kind, {}).values())

    def get(self, kind: str, id: str) -> Row | None:
        """One row."""
        return self._rows.get(kind, {}).get(id)


def _by_kind(file: ResourcesFile, generation: int) -> Mapping[str, Mapping[str, Row]]:
    """Kind -> id -> row, in the order of ids."""
    rows: dict[str, dict[str, Row]] = {}
    for row in sorted(file.rows, key=lambda row: row.id):
        rows.setdefault(row.kind, {})[row.id] = Row(row.id, row.raw, generation)
    return rows
