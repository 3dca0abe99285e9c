"""Two stores for tests of the planner: the Cloud's rows, and a local etcd in a dictionary that takes transactions with
their compares and holds them to the limits and to the order of design 9."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from msgspec import json

from aisix_cloud_agent.projection.layout import Layout
from aisix_cloud_agent.projection.markers import Fence
from aisix_cloud_agent.projection.ordering import ORDER
from aisix_cloud_agent.projection.planning import Plan
from aisix_cloud_agent.projection.steps import Step
from aisix_common.managed.projected import Marker, Standing, epoch_key, projection_key, standing
from aisix_common.secrets.envelope import Keyring
from aisix_common.store.types import Compare, Compared, Delete, Deleted, KeyValue, Listing, Operation, Put

ENV = "0b7e7f2e-5c0b-4c3e-9d5b-1f0a2c3d4e5f"
OTHER_ENV = "9d2e61b0-44af-4be1-a0f7-88d393aa20f7"
LAYOUT = Layout(ENV)
KEYRING = Keyring([("k1", b"1" * 32)])
RANKS = {kind.name: rank for rank, kind in enumerate(ORDER)}


def cloud_key(kind: str, id: str, env: str = ENV) -> str:
    """Where the Cloud holds a row."""
    return f"/ext/aisix/{env}/{kind}/{id}" if kind == "secret_providers" else f"/aisix/{env}/{kind}/{id}"


class Store:
    """Rows by key, with etcd's revisions."""

    def __init__(self) -> None:
        self.rows: dict[str, KeyValue] = {}
        self.revision = 1

    def put(self, key: str, value: bytes | Mapping[str, Any]) -> KeyValue:
        """One write, at a revision of its own."""
        self.revision += 1
        return self._put(key, value if isinstance(value, bytes) else json.encode(value))

    def delete(self, key: str) -> Deleted:
        """One delete, at a revision of its own."""
        self.revision += 1
        del self.rows[key]
        return Deleted(key, self.revision)

    def listing(self) -> Listing:
        """Everything."""
        return Listing(tuple(self.rows.values()), self.revision)

    def document(self, key: str) -> Any:
        """A row's document, as it is stored."""
        return json.decode(self.rows[key].value)

    def _put(self, key: str, value: bytes) -> KeyValue:
        old = self.rows.get(key)
        created, version = (old.create_revision, old.version + 1) if old else (self.revision, 1)
        self.rows[key] = KeyValue(key, value, created, self.revision, version)
        return self.rows[key]

    def _holds(self, compare: Compare) -> bool:
        assert compare.target is Compared.MOD
        row = self.rows.get(compare.key)
        return (row.mod_revision if row else 0) == compare.number


class LocalEtcd(Store):
    """What is projected into."""

    def __init__(self) -> None:
        super().__init__()
        self.put(epoch_key(LAYOUT.run), b"1")
        self.writes = 0
        """Operations on rows."""

    def txn(self, compare: list[Compare], operations: list[Operation]) -> bool:
        """One transaction, held to the limits."""
        assert {epoch_key(LAYOUT.run), projection_key(LAYOUT.run)} <= {each.key for each in compare}
        assert len(operations) <= 100
        assert sum(len(each.key) + len(getattr(each, "value", b"")) for each in operations) <= 1024 * 1024
        keys = [each.key for each in operations]
        assert len(keys) == len(set(keys)), "etcd refuses a key that is written twice"
        if not all(map(self._holds, compare)):
            return False
        self.revision += 1
        self.writes += len(operations) - 1
        for each in operations:
            if isinstance(each, Put):
                self._put(each.key, each.value)
            elif isinstance(each, Delete):
                del self.rows[each.key]
        return True

    @property
    def standing(self) -> Standing:
        """The projection row."""
        return standing(self.rows.get(projection_key(LAYOUT.run)))

    @property
    def marker(self) -> Marker | None:
        """What it says of the Cloud."""
        marker = self.standing.marker
        return marker.bare if marker is not None else None

    def fence(self) -> Fence:
        """As the leader has it now."""
        return Fence.at(self.standing, epoch=self.rows[epoch_key(LAYOUT.run)].mod_revision)

    def projected(self) -> dict[str, bytes]:
        """The rows under the local roots."""
        prefixes = (LAYOUT.resources + "/", LAYOUT.ext + "/")
        return {key: row.value for key, row in self.rows.items() if key.startswith(prefixes)}

    def run(self, plan: object, most: int | None = None) -> list[Step]:
        """Commit the steps of a plan, or the first `most` of them, as the agent does; the steps that were."""
        assert isinstance(plan, Plan), plan
        fence = self.fence()
        done: list[Step] = []
        for step in islice(plan.steps, most):
            fence = self.commit(step, fence)
            done.append(step)
        _in_order([operation for step in done for operation in step.operations])
        return done

    def tries(self, step: Step, fence: Fence) -> bool:
        """Whether a step can be committed; it is then."""
        return self.txn(*step.transaction(fence, step.marked(fence, LAYOUT.resources, LAYOUT.ext), LAYOUT.run))

    def commit(self, step: Step, fence: Fence) -> Fence:
        """Commit a step that must not fail; the fence of the next one."""
        marker = step.marked(fence, LAYOUT.resources, LAYOUT.ext)
        assert self.txn(*step.transaction(fence, marker, LAYOUT.run))
        return fence.after(self.revision, marker)


def _in_order(operations: list[Put | Delete]) -> None:
    """Dependencies first, deletes last and the other way round."""
    puts = [each for each in operations if isinstance(each, Put)]
    assert operations[: len(puts)] == puts
    ranks = [_rank(each.key) for each in puts]
    assert ranks == sorted(ranks)
    ranks = [_rank(each.key) for each in operations[len(puts) :]]
    assert ranks == sorted(ranks, reverse=True)


def _rank(key: str) -> int:
    kind = key.removeprefix("/ext").split("/")[2]
    return RANKS.get(kind, len(RANKS))
