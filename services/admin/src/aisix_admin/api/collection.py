"""The calls on a kind: list, get, create, replace, patch, delete. Written once, for every kind there is.

What is to be done is decided in `decisions`, and done in `store`; nothing here knows a kind by name except that a key
which the gateway made is shown once, and that viewers see neither the hashes of keys nor where
secrets lie.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from aiohttp import web

from aisix_common.errors import Problem
from aisix_common.resources import API_KEYS, Kind, Rejected, masked, read
from aisix_common.secret import MASK, is_reference

from ..errors import Undecodable
from ..examples import DOCUMENTS
from ..listing import Position, Query, cursor
from ..planning import Edit, View
from ..preconditions import etag
from ..rows import Row
from ..services import Services
from . import shapes
from .description import describe, gives, takes
from .edge import BREATH, WHO, Handler, answer, encoded
from .writing import commit, conditions, document_of, flag


def listing(kind: Kind[Any], services: Services) -> Handler:
    """GET of a kind: a bare array, in key order; a page of it where the query asks for one."""

    async def handler(request: web.Request) -> web.StreamResponse:
        query = Query.read(request.query)
        if query is None:
            return encoded(await _entries(kind, await services.rows.list(kind.name), services, request))
        rows, following = await _page(kind, query, services)
        items = msgspec.Raw(await _entries(kind, rows, services, request))
        return answer({"items": items, "next_cursor": following})

    gives(handler, shapes.listed(kind), "Every resource of this kind, in key order; with a query: a page.")
    return described(handler, kind, "list", f"List {kind.name}", query=shapes.LIST_QUERY)


async def _page(kind: Kind[Any], query: Query, services: Services) -> tuple[Sequence[Row], str | None]:
    if query.name is None and query.order == "id":
        after = query.after.id if query.after else ""
        rows = await services.rows.page(kind.name, after, query.limit + 1)
        more = len(rows) > query.limit
        rows = rows[: query.limit]
        return rows, cursor(Position("id", "", rows[-1].id)) if more else None
    ids, following = query.chosen(services.follower.index.sorted(kind.name))
    return await services.rows.some(kind.name, ids), following


async def _entries(kind: Kind[Any], rows: Iterable[Row], services: Services, request: web.Request) -> bytes:
    """Rows as they are answered, in one JSON array. Those that are no documents are left out and logged."""
    entries: list[bytes] = []
    for place, row in enumerate(rows, 1):
        loaded = read(kind, row.value)
        if isinstance(loaded, Rejected):
            services.log.warning("row left out of a list", kind=kind.name, id=row.id, reason=loaded.message)
        else:
            entries.append(msgspec.json.encode(entry(kind, row.id, loaded.value, row.revision, request)))
        if place % BREATH == 0:
            await asyncio.sleep(0)
    return b"[" + b",".join(entries) + b"]"


def getting(kind: Kind[Any], services: Services) -> Handler:
    """GET of one resource."""

    async def handler(request: web.Request) -> web.StreamResponse:
        row = await services.rows.get(kind.name, request.match_info["id"])
        tag = {"ETag": etag(row.revision)}
        if conditions(request).unmodified(row.revision):
            return web.Response(status=304, headers=tag)
        loaded = read(kind, row.value)
        if isinstance(loaded, Rejected):
            raise Undecodable(kind.name, Problem("", loaded.message))
        return answer(entry(kind, row.id, loaded.value, row.revision, request), headers=tag)

    gives(handler, shapes.entry(kind), "The resource, its secrets masked. `ETag` is its revision.")
    return described(handler, kind, "get", f"Read one of {kind.name}", one=True)


def creating(kind: Kind[Any], services: Services) -> Handler:
    """POST: the id is ours."""

    async def handler(request: web.Request) -> web.StreamResponse:
        sent = await document_of(request, services)
        id = services.new_id()
        edit, plaintext = services.decisions.create(kind, id, sent, services.new_key)
        written, receipt = await commit(request, services, [(kind.name, id)], lambda view: [edit])
        more = {} if plaintext is None else {"plaintext": plaintext.reveal()}
        return written_entry(edit, written.revision, request, {**more, **receipt})

    gives(handler, shapes.created(kind), "The resource as it was stored, with its new id.")
    takes(handler, shapes.written(kind), example=DOCUMENTS[kind.name])
    return described(
        handler, kind, "create", f"Create one of {kind.name}", writes=True, body=True, query=shapes.WRITE_QUERY
    )


def replacing(kind: Kind[Any], services: Services) -> Handler:
    """PUT: the whole document; only of what exists. Fields that only others know stay as they are stored."""

    async def handler(request: web.Request) -> web.StreamResponse:
        sent = await document_of(request, services)
        id = request.match_info["id"]

        def decide(view: View) -> Sequence[Edit]:
            return [services.decisions.replace(kind, view.row(kind.name, id), id, sent)]

        written, receipt = await commit(request, services, [(kind.name, id)], decide)
        return written_entry(written.edits[0], written.revision, request, receipt)

    gives(handler, shapes.entry(kind), "The resource as it is stored now.")
    takes(handler, shapes.written(kind), example=DOCUMENTS[kind.name])
    return described(
        handler,
        kind,
        "replace",
        f"Replace one of {kind.name}",
        one=True,
        writes=True,
        body=True,
        query=shapes.WRITE_QUERY,
    )


def patching(kind: Kind[Any], services: Services) -> Handler:
    """PATCH: a JSON merge patch (RFC 7396) on what GET shows."""

    async def handler(request: web.Request) -> web.StreamResponse:
        sent = await document_of(request, services)
        id = request.match_info["id"]

        def decide(view: View) -> Sequence[Edit]:
            return [services.decisions.patch(kind, view.row(kind.name, id), id, sent)]

        written, receipt = await commit(request, services, [(kind.name, id)], decide)
        return written_entry(written.edits[0], written.revision, request, receipt)

    gives(handler, shapes.entry(kind), "The resource as it is stored now.")
    takes(handler, shapes.Patch())
    return described(
        handler,
        kind,
        "patch",
        f"Change fields of one of {kind.name}",
        one=True,
        writes=True,
        body=True,
        query=shapes.WRITE_QUERY,
    )


def deleting(kind: Kind[Any], services: Services) -> Handler:
    """DELETE of one resource; with `?purge=true` of its history, too, also when the resource is gone already."""

    async def handler(request: web.Request) -> web.StreamResponse:
        id = request.match_info["id"]

        def decide(view: View) -> Sequence[Edit]:
            row = view.row(kind.name, id)
            purge = flag(request, "purge")
            if row is None and purge and view.history(kind.name, id).versions:
                return [Edit(kind, id, "purged")]
            edit = services.decisions.delete(kind, row, id)
            return [replace(edit, action="purged") if purge else edit]

        _, receipt = await commit(request, services, [(kind.name, id)], decide)
        return answer({"deleted": True, "id": id, **receipt})

    gives(handler, shapes.Deleted(), "It is gone.")
    return described(
        handler, kind, "delete", f"Delete one of {kind.name}", one=True, writes=True, query=shapes.DELETE_QUERY
    )


def entry(kind: Kind[Any], id: str, value: Any, revision: int, request: web.Request) -> dict[str, Any]:
    """A resource as it is answered to whoever asks."""
    return {"id": id, "value": veiled(kind, masked(kind, value), request), "revision": revision}


def veiled(kind: Kind[Any], shown: dict[str, Any], request: web.Request) -> dict[str, Any]:
    """A masked document without what a viewer need not see: whoever has a key's hash can try keys against it, and a
    secret reference says where to look for the secret."""
    if request[WHO].role != "viewer":
        return shown
    shown = without_references(shown)
    if kind is not API_KEYS:
        return shown
    if "key_hash" in shown:
        shown["key_hash"] = MASK
    if "previous_keys" in shown:
        shown["previous_keys"] = [{**each, "hash": MASK} for each in shown["previous_keys"]]
    return shown


def without_references(shown: dict[str, Any]) -> dict[str, Any]:
    """A masked document with `***` for secret references, too; what only looks like one is no loss."""
    return {name: _without_references(item) for name, item in shown.items()}


def _without_references(item: Any) -> Any:
    if isinstance(item, str):
        return MASK if is_reference(item) else item
    if isinstance(item, dict):
        return without_references(item)
    return [_without_references(each) for each in item] if isinstance(item, list) else item


def written_entry(
    edit: Edit, revision: int, request: web.Request, more: Mapping[str, Any], status: int = 200
) -> web.Response:
    """The answer to a write of one resource."""
    shown = entry(edit.kind, edit.id, edit.value, revision, request)
    return answer({**shown, **more}, status, headers={"ETag": etag(revision)})


def described(
    handler: Handler,
    kind: Kind[Any],
    verb: str,
    summary: str,
    *,
    one: bool = False,
    writes: bool = False,
    body: bool = False,
    query: Sequence[Mapping[str, Any]] = (),
) -> Handler:
    errors = {401: "No valid admin key.", 503: "etcd is away, or others kept writing."}
    if query:
        errors[400] = "The query is wrong."
    if one:
        errors[404] = "There is no such resource."
    if writes:
        errors |= {
            403: "The admin key is a viewer's.",
            409: "The name is in use, or others refer to the resource, or resources come from a file.",
        }
        if one:
            errors[412] = "`If-Match` or `If-None-Match` does not hold."
    if body:
        errors |= {
            400: "Not JSON, or the document breaks rules: `errors` lists all.",
            408: "The body did not arrive in time.",
            413: "The body is too large.",
            415: "The body is not declared as JSON, or is encoded.",
        }
    if verb in ("get", "patch"):
        errors[500] = "The row in etcd is no document of this kind."
    name = f"{verb}_{kind.name}"
    return describe(handler, tag=kind.name, name=name, summary=summary, errors=errors, query=query)
