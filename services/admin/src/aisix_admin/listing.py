"""Which part of a collection is asked for: the query of a list, and the cursor that goes on from a page. Pure."""

import base64
import binascii
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self, TypeAlias, cast

import msgspec

from aisix_common.errors import Problem

from .errors import Invalid

Order: TypeAlias = Literal["id", "name", "-name"]

ORDERS: Final = ("id", "name", "-name")
USUAL: Final = 50
"""Resources of a page where the query has no `limit`."""
MOST: Final = 1000
_KNOWN: Final = ("limit", "cursor", "name", "sort")


class Position(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ended: the last row's name (empty where the order is by id) and id; `order` is its query's."""

    order: str
    name: str
    id: str


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for. `name` is a whole name, or a pattern with one `*`."""

    limit: int = USUAL
    after: Position | None = None
    name: str | None = None
    order: Order = "id"

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Self | None:
        """The query of a URL; None where it asks for nothing special, which gives everything as a bare array.

        Raises Invalid with everything that is wrong.
        """
        asked = {name: text for name, text in query.items() if name in _KNOWN}
        if not asked:
            return None
        problems: list[Problem] = []
        limit = _limit(asked.get("limit", str(USUAL)), problems)
        order = asked.get("sort", "id")
        if order not in ORDERS:
            problems.append(Problem("?sort", f"must be one of: {', '.join(ORDERS)}"))
        after = read_cursor(asked["cursor"], order, problems) if "cursor" in asked else None
        name = asked.get("name")
        if name is not None and name.count("*") > 1:
            problems.append(Problem("?name", "must be a name, or a pattern with one `*`"))
        if problems:
            raise Invalid(f"the query is wrong: {problems[0].path}: {problems[0].reason}", problems)
        return cls(limit, after, name, cast("Order", order))

    def chosen(self, rows: Sequence[tuple[str, str]]) -> tuple[list[str], str | None]:
        """The ids of this page out of all `rows` ((name, id), sorted), and the cursor of the next one."""
        ids: list[str] = []
        last = ("", "")
        for name, id in self._from_here(rows if self.name is None else self._meant(rows)):
            if len(ids) == self.limit:
                return ids, cursor(Position(self.order, last[0] if self.order != "id" else "", last[1]))
            ids.append(id)
            last = (name, id)
        return ids, None

    def _meant(self, rows: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
        """Those of `rows` whose name is meant: they stand together as far as it has no star."""
        before, star, behind = (self.name or "").partition("*")
        first = bisect_left(rows, (before, ""))
        last = bisect_left(rows, True, lo=first, key=lambda row: not row[0].startswith(before))
        if not star:
            return [row for row in rows[first:last] if row[0] == before]
        least = len(before) + len(behind)
        return [row for row in rows[first:last] if row[0].endswith(behind) and len(row[0]) >= least]

    def _from_here(self, rows: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
        after = self.after
        if self.order == "id":
            ordered = sorted(rows, key=lambda row: row[1])
            return ordered if after is None else ordered[bisect_right(ordered, after.id, key=lambda row: row[1]) :]
        if self.order == "name":
            return rows if after is None else rows[bisect_right(rows, (after.name, after.id)) :]
        return (rows if after is None else rows[: bisect_left(rows, (after.name, after.id))])[::-1]


def cursor(position: Position) -> str:
    """A position as text for a URL."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def read_cursor(text: str, order: str, problems: list[Problem]) -> Position | None:
    """The position in a cursor; what is wrong with it goes to `problems`."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        position = msgspec.json.decode(raw, type=Position)
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        problems.append(Problem("?cursor", "must be the `next_cursor` of the page before"))
        return None
    if position.order != order:
        problems.append(Problem("?cursor", "belongs to another `sort`: start anew without it"))
    return position


def _limit(text: str, problems: list[Problem]) -> int:
    if text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MOST:
        return int(text)
    problems.append(Problem("?limit", f"must be a whole number from 1 to {MOST}"))
    return USUAL
