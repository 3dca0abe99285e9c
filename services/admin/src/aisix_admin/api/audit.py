"""GET /admin/v1/audit: who changed what, newest first."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from aiohttp import web

from aisix_common.errors import Problem
from aisix_common.resources import BY_NAME

from ..audit import Filter, key_of, older_than, read_entry, shown
from ..errors import Invalid
from ..services import Services
from . import shapes
from .description import describe, gives
from .edge import Handler, answer

USUAL: Final = 100
MOST: Final = 1000
PAGE: Final = 500
"""Rows of one read of etcd."""
MOST_READ: Final = 5000
"""Rows that one call looks through; the answer then says where to go on."""


def auditing(services: Services) -> Handler:
    """Filters: kind, id, who, action, since, until; limit and cursor."""

    async def handler(request: web.Request) -> web.StreamResponse:
        wanted, limit, cursor = _query(request.query)
        found: list[dict[str, Any]] = []
        after, seen = cursor, 0
        start = key_of(wanted.until, "") if wanted.until and not cursor else ""
        end = older_than(wanted.since) if wanted.since else ""
        while True:
            rows = await services.store.audit_page(after, start, PAGE)
            for segment, row in rows:
                if end and segment >= end:
                    return answer({"items": found, "next_cursor": None})
                entry = read_entry(row.value)
                if entry is not None and wanted.takes(entry):
                    found.append(shown(segment, row.mod_revision, entry))
                seen, after = seen + 1, segment
                if len(found) == limit or seen == MOST_READ:
                    return answer({"items": found, "next_cursor": after})
            if len(rows) < PAGE:
                return answer({"items": found, "next_cursor": None})

    gives(handler, shapes.Audit(), "What was written, newest first. Field names, never values.")
    errors = {400: "The query is wrong.", 401: "No valid admin key.", 409: "In file mode.", 503: "etcd is away."}
    return describe(
        handler, tag="audit", name="audit", summary="Who changed what", errors=errors, query=shapes.AUDIT_QUERY
    )


def _query(query: Mapping[str, str]) -> tuple[Filter, int, str]:
    problems: list[Problem] = []
    since, until = (_moment(query.get(name), f"?{name}", problems) for name in ("since", "until"))
    text = query.get("limit", str(USUAL))
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 1 <= limit <= MOST:
        problems.append(Problem("?limit", f"must be a whole number from 1 to {MOST}"))
    if query.get("kind", "models") not in BY_NAME:
        problems.append(Problem("?kind", "must be a kind of resource"))
    if problems:
        raise Invalid(f"the query is wrong: {problems[0].path}: {problems[0].reason}", problems)
    names = {name: query.get(name) for name in ("kind", "id", "who", "action")}
    return Filter(**names, since=since, until=_through(until)), limit, query.get("cursor", "")


def _moment(text: str | None, at: str, problems: list[Problem]) -> datetime | None:
    if text is None:
        return None
    try:
        # In a query `+` means a space unless it is escaped: people forget that.
        moment = msgspec.convert(text.replace(" ", "+"), datetime)
    except msgspec.ValidationError:
        problems.append(Problem(at, "must be an RFC 3339 time such as 2030-01-31T12:00:00Z"))
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _through(moment: datetime | None) -> datetime | None:
    """The last moment of the second that `moment` names: entries are shown with whole seconds."""
    return moment and moment.replace(microsecond=999_999)
