"""Whether what the admin has written into etcd belongs together: every resource, version and audit row."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from aisix_admin.audit import Changed, read_entry
from aisix_admin.history import read_history
from aisix_common.store.client import EtcdClient
from aisix_common.store.types import KeyValue


@dataclass(frozen=True, slots=True)
class Written:
    """Everything under the two roots of one admin."""

    prefix: str
    rows: dict[str, KeyValue]

    def under(self, folder: str) -> Iterable[KeyValue]:
        """The rows of one folder of the run root."""
        root = f"/run{self.prefix}/{folder}/"
        return (row for key, row in self.rows.items() if key.startswith(root))

    def audited(self) -> list[tuple[int, Changed]]:
        """(revision, change) of every audit row; asserts that each can be read."""
        found = []
        for row in self.under("audit"):
            entry = read_entry(row.value)
            assert entry is not None, row.key
            found += [(row.mod_revision, change) for change in entry.changes]
        return found

    def require_complete(self) -> int:
        """Assert that writes happened as a whole or not at all, and give their number."""
        told = self.audited()
        newest: dict[tuple[str, str], int] = {}
        for revision, change in told:
            place = change.kind, change.id
            newest[place] = max(newest.get(place, 0), revision)
        for (kind, id), revision in newest.items():
            past = self.rows[f"/run{self.prefix}/history/{kind}/{id}"]
            assert past.mod_revision == revision, "history and audit are of one transaction"
            history = read_history(past.value, past.mod_revision)
            times = sum((change.kind, change.id) == (kind, id) for _, change in told)
            assert len(history.versions) == min(times, 20) and history.last is not None
            row = self.rows.get(f"{self.prefix}/{kind}/{id}")
            assert (row is None) == (history.last.value is None), "deleted in both, or in neither"
            if row is not None and history.last.value is not None:
                assert row.mod_revision == revision
                assert json.loads(row.value).keys() == history.last.value.keys()
        resources = {key for key in self.rows if key.startswith(self.prefix + "/")}
        assert resources <= {f"{self.prefix}/{kind}/{id}" for kind, id in newest}, "no row without its audit row"
        return len(told)


async def everything(client: EtcdClient, prefix: str) -> Written:
    """What is there now."""
    found = [await client.range(root) for root in (prefix + "/", f"/run{prefix}/")]
    return Written(prefix, {row.key: row for each in found for row in each.rows})
