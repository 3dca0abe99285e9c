"""The five calls of the older dialect, written once for both of its collections.

What a document means is its `Translation`'s, what is done with rows the store's; here is what stands between them.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from aisix_common.errors import Problem
from aisix_common.resources import Rejected, read

from ...errors import Busy, Conflict, Invalid, Undecodable, Unknown
from ...planning import Edit, View
from ...preconditions import etag
from ...rows import Row
from ...services import Services
from ...store import Dangling, Decide, Written
from ..collection import without_references
from ..edge import BREATH, WHO, Handler, answer
from ..writing import commit, conditions, document_of
from .envelope import Misshapen, Missing, Taken, listed, require_sane, unreadable
from .translation import Asked, Translation


def listing(kind: Translation, services: Services) -> Handler:
    """GET of a collection: all that this dialect can show, in key order."""

    async def handler(request: web.Request) -> web.StreamResponse:
        rows = await services.rows.list(kind.kind.name)
        items: list[dict[str, Any]] = []
        for begin in range(0, len(rows), BREATH):
            found = _readable(kind, rows[begin : begin + BREATH], services)
            shown = await kind.shown(services.rows, found)
            items += (kind.collection.item(row.id, _veiled(value, request), row) for row, value in shown)
            await asyncio.sleep(0)
        return answer(listed(items))

    return handler


def _readable(kind: Translation, rows: Sequence[Row], services: Services) -> list[tuple[Row, Any]]:
    """Rows with their resources. Those that are no documents are left out and logged."""
    found: list[tuple[Row, Any]] = []
    for row in rows:
        loaded = read(kind.kind, row.value)
        if isinstance(loaded, Rejected):
            services.log.warning("row left out of a list", kind=kind.kind.name, id=row.id, reason=loaded.message)
        else:
            found.append((row, loaded.value))
    return found


def getting(kind: Translation, services: Services) -> Handler:
    """GET of one resource."""

    async def handler(request: web.Request) -> web.StreamResponse:
        id = request.match_info["id"]
        async with _in_words(kind, id):
            row = await services.rows.get(kind.kind.name, id)
        tag = {"ETag": etag(row.revision)}
        if conditions(request).unmodified(row.revision):
            return web.Response(status=304, headers=tag)
        loaded = read(kind.kind, row.value)
        if isinstance(loaded, Rejected):
            raise Undecodable(kind.kind.name, Problem("", loaded.message))
        shown = await kind.shown(services.rows, [(row, loaded.value)])
        if not shown:
            raise kind.unshowable(id)
        return answer(kind.collection.item(id, _veiled(shown[0][1], request), row), headers=tag)

    return handler


def _veiled(shown: dict[str, Any], request: web.Request) -> dict[str, Any]:
    """What is shown, without what viewers need not see."""
    return without_references(shown) if request[WHO].role == "viewer" else shown


def creating(kind: Translation, services: Services) -> Handler:
    """POST: the id is ours."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return await _write(kind, services, request, services.new_id())

    return handler


def replacing(kind: Translation, services: Services) -> Handler:
    """PUT: the whole document, of what exists and of what does not. What the dialect does not know stays."""

    async def handler(request: web.Request) -> web.StreamResponse:
        require_sane(request.match_info["id"])
        return await _write(kind, services, request, request.match_info["id"])

    return handler


async def _write(kind: Translation, services: Services, request: web.Request, id: str) -> web.Response:
    try:
        sent = await document_of(request, services)
    except Invalid as error:
        raise unreadable(error) from None
    kind.check(sent, services.decisions)

    def decide(view: View) -> Sequence[Edit]:
        return kind.edits(Asked(id, sent, view, services.decisions, services.follower.index))

    written, receipt = await _commit(kind, services, request, id, decide)
    shown = kind.collection.item(id, kind.written(sent, written.edits))
    status = 201 if written.edits[0].action == "created" else 200
    return answer({**shown, **receipt}, status, headers={"ETag": etag(written.revision)})


def deleting(kind: Translation, services: Services) -> Handler:
    """DELETE of one resource."""

    async def handler(request: web.Request) -> web.StreamResponse:
        id = request.match_info["id"]

        def decide(view: View) -> Sequence[Edit]:
            return kind.removal(Asked(id, {}, view, services.decisions, services.follower.index))

        _, receipt = await _commit(kind, services, request, id, decide)
        return answer({**kind.collection.removed(id), **receipt})

    return handler


async def _commit(
    kind: Translation, services: Services, request: web.Request, id: str, decide: Decide
) -> tuple[Written, Mapping[str, Any]]:
    """Write. The conditions of the request are those of the resource, however many rows it has."""
    asked, targets = conditions(request), kind.targets(id)

    def conditional(view: View) -> Sequence[Edit]:
        row = view.row(*targets[0])
        asked.require(None if row is None else row.revision)
        return decide(view)

    async with _in_words(kind, id):
        return await commit(request, services, targets, conditional)


@asynccontextmanager
async def _in_words(kind: Translation, id: str) -> AsyncIterator[None]:
    """Refusals that the dialect has words of its own for."""
    try:
        yield
    except Unknown:
        raise Missing(kind.collection, id) from None
    except Conflict as error:
        if error.id != id:  # a foreign writer took the name of the row that goes with it: another will be found
            raise Busy from None
        raise Taken(kind.collection) from None
    except Dangling as error:
        raise Misshapen(error.problems) from None
