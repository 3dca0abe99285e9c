"""What the calls need of a kind to serve it in the older dialect, and the parts that both kinds share. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from aisix_common.resources import Kind, RateLimit, Rejected, read
from aisix_common.resources.scalars import U32, U64

from ...decisions import Decisions
from ...index import Place, ResourceIndex
from ...planning import Edit, View
from ...rows import Reading, Row
from .envelope import Collection, Missing

LIMITS: Final = ("tpm", "tpd", "rpm", "rpd", "concurrency")


class OlderLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The limits this dialect knows. Absent: not limited there."""

    tpm: U64 | UnsetType = UNSET
    tpd: U64 | UnsetType = UNSET
    rpm: U64 | UnsetType = UNSET
    rpd: U64 | UnsetType = UNSET
    concurrency: U32 | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class Asked:
    """One resource that is to be written, and what that is decided on."""

    id: str
    sent: Mapping[str, Any]
    """In the older dialect, and found to be well formed; empty for a deletion."""
    view: View
    decisions: Decisions
    index: ResourceIndex


class Translation(Protocol):
    """A kind in the older dialect."""

    @property
    def collection(self) -> Collection: ...

    @property
    def kind(self) -> Kind[Any]: ...

    def targets(self, id: str) -> Sequence[Place]:
        """The rows that a write of this resource touches, its own first."""

    def check(self, sent: Mapping[str, Any], decisions: Decisions) -> None:
        """Raise Misshapen with everything wrong with a written document that can be told without the stored row."""

    def edits(self, asked: Asked) -> Sequence[Edit]:
        """Create or replace, that of the resource itself first. Raises Invalid."""

    def removal(self, asked: Asked) -> Sequence[Edit]:
        """Delete. Raises Unknown, Missing."""

    def written(self, sent: Mapping[str, Any], edits: Sequence[Edit]) -> dict[str, Any]:
        """What the answer to a write shows."""

    async def shown(self, rows: Reading, found: Sequence[tuple[Row, Any]]) -> Sequence[tuple[Row, dict[str, Any]]]:
        """Rows (with their typed resources) as the dialect shows them; those it cannot show are left out."""

    def unshowable(self, id: str) -> Missing:
        """The refusal of a row that `shown` leaves out."""


def typed(kind: Kind[Any], row: Row | None) -> Any:
    """The resource in a row; None where there is no row, or it is no document of its kind."""
    loaded = None if row is None else read(kind, row.value)
    return None if loaded is None or isinstance(loaded, Rejected) else loaded.value


def shown_limit(limit: RateLimit | UnsetType | None) -> dict[str, int]:
    """The limits that this dialect knows, where they are set."""
    found = {name: getattr(limit, name, None) for name in LIMITS}
    return {name: value for name, value in found.items() if value is not None}


def with_limit(document: dict[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
    """`document` with the limits of `sent`. What it limits in ways that the dialect does not know stays."""
    others = {name: value for name, value in document.pop("rate_limit", {}).items() if name not in LIMITS}
    limit = {**others, **sent.get("rate_limit", {})}
    return {**document, "rate_limit": limit} if limit else document
