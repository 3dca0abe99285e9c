"""The five calls on a kind: list, get, create, replace, delete. Written once, for every kind there is.

Documents come in through `validation`, go out masked, and rest in `store`; nothing here knows a kind by name except
that caller keys pass through `caller_keys` on their way in.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from aisix_common.errors import Problem
from aisix_common.resources import API_KEYS, Kind, Rejected, document, masked, read
from aisix_common.secret import Secret

from ..body import parse_object
from ..caller_keys import Admitted, admit
from ..errors import Conflict, Undecodable
from ..services import Services
from ..store import Draft, Row
from ..validation import created, replaced, to_store
from . import shapes
from .description import describe, gives, takes
from .edge import BREATH, WHO, Handler, answer
from .intake import read_body


def listing(kind: Kind[Any], services: Services) -> Handler:
    """GET of a kind: a bare array, in key order. Rows that are no documents are left out and logged."""

    async def handler(request: web.Request) -> web.StreamResponse:
        entries: list[dict[str, Any]] = []
        for place, row in enumerate(await services.store.list(kind.name), 1):
            loaded = read(kind, row.value)
            if isinstance(loaded, Rejected):
                services.log.warning("row left out of a list", kind=kind.name, id=row.id, reason=loaded.message)
            else:
                entries.append(_entry(kind, row.id, loaded.value, row.revision))
            if place % BREATH == 0:
                await asyncio.sleep(0)
        return answer(entries)

    gives(handler, shapes.entries(kind), "Every resource of this kind, in key order.")
    return _described(handler, kind, "list", f"List all {kind.name}")


def getting(kind: Kind[Any], services: Services) -> Handler:
    """GET of one resource."""

    async def handler(request: web.Request) -> web.StreamResponse:
        row = await services.store.get(kind.name, request.match_info["id"])
        loaded = read(kind, row.value)
        if isinstance(loaded, Rejected):
            raise Undecodable(kind.name, Problem("", loaded.message))
        return answer(_entry(kind, row.id, loaded.value, row.revision))

    gives(handler, shapes.entry(kind), "The resource, its secrets masked.")
    return _described(handler, kind, "get", f"Read one of {kind.name}", one=True)


def creating(kind: Kind[Any], services: Services) -> Handler:
    """POST: the id is ours."""

    async def handler(request: web.Request) -> web.StreamResponse:
        admitted = _admit(kind, await _document(request, services), services, services.new_key)
        value = created(kind, admitted.document, admitted.flaws)
        id = services.new_id()
        try:
            row = await services.store.create(kind.name, id, _draft(kind, value, document(kind, value)))
        except Conflict as conflict:
            raise _worded(kind, conflict) from None
        _note(request, services, "created", kind, row)
        entry = _entry(kind, row.id, value, row.revision)
        if admitted.plaintext is not None:
            entry["plaintext"] = admitted.plaintext.reveal()
        return answer(entry)

    gives(handler, shapes.created(kind), "The resource as it was stored, with its new id.")
    takes(handler, shapes.written(kind))
    return _described(handler, kind, "create", f"Create one of {kind.name}", writes=True)


def replacing(kind: Kind[Any], services: Services) -> Handler:
    """PUT: the whole document; only of what exists. Fields that only others know stay as they are stored."""

    async def handler(request: web.Request) -> web.StreamResponse:
        sent = await _document(request, services)
        id = request.match_info["id"]
        decided: list[Any] = []

        def decide(current: Row) -> Draft:
            loaded = read(kind, current.value)
            old = None if isinstance(loaded, Rejected) else loaded.value
            admitted = _admit(kind, sent, services, None, services.follower.index.name_of(kind.name, current.value))
            value = replaced(kind, admitted.document, old, admitted.flaws)
            decided[:] = [value]
            return _draft(kind, value, to_store(kind, value, old, current.value))

        try:
            row = await services.store.replace(kind.name, id, decide)
        except Conflict as conflict:
            raise _worded(kind, conflict) from None
        _note(request, services, "replaced", kind, row)
        return answer(_entry(kind, row.id, decided[0], row.revision))

    gives(handler, shapes.entry(kind), "The resource as it is stored now.")
    takes(handler, shapes.written(kind))
    return _described(handler, kind, "replace", f"Replace one of {kind.name}", one=True, writes=True)


def deleting(kind: Kind[Any], services: Services) -> Handler:
    """DELETE of one resource."""

    async def handler(request: web.Request) -> web.StreamResponse:
        id = request.match_info["id"]
        await services.store.delete(kind.name, id)
        _note(request, services, "deleted", kind, Row(id, b"", 0))
        return answer({"deleted": True, "id": id})

    gives(handler, shapes.Deleted(), "It is gone.")
    return _described(handler, kind, "delete", f"Delete one of {kind.name}", one=True)


async def _document(request: web.Request, services: Services) -> dict[str, Any]:
    return parse_object(await read_body(request, services.body_seconds))


def _admit(
    kind: Kind[Any],
    sent: Mapping[str, Any],
    services: Services,
    make: Callable[[], Secret] | None,
    stored: str | None = None,
) -> Admitted:
    if kind is not API_KEYS:
        return Admitted(dict(sent))
    return admit(sent, services.admin_keys, make=make, stored=stored)


def _draft(kind: Kind[Any], value: Any, stored: Mapping[str, Any]) -> Draft:
    return Draft(msgspec.json.encode(stored), kind.name_of(value))


def _entry(kind: Kind[Any], id: str, value: Any, revision: int) -> dict[str, Any]:
    return {"id": id, "value": masked(kind, value), "revision": revision}


def _worded(kind: Kind[Any], conflict: Conflict) -> Conflict:
    """The sentence for a taken name. A key hash is not repeated, and a name only as far as it is short."""
    if kind is API_KEYS:
        return Conflict(conflict.name, "this key already in use by another resource")
    return Conflict(conflict.name, f'name "{conflict.name[:128]}" already in use by another resource')


def _note(request: web.Request, services: Services, action: str, kind: Kind[Any], row: Row) -> None:
    services.log.info(
        "resource written", action=action, kind=kind.name, id=row.id, revision=row.revision, admin_key=request.get(WHO)
    )


def _described(
    handler: Handler, kind: Kind[Any], verb: str, summary: str, *, one: bool = False, writes: bool = False
) -> Handler:
    errors = {401: "No valid admin key.", 503: "etcd is away, or others kept writing."}
    if one:
        errors[404] = "There is no such resource."
    if writes:
        errors |= {
            400: "Not JSON, or the document breaks rules: `errors` lists all.",
            409: "The name is in use by another resource of this kind.",
            408: "The body did not arrive in time.",
            413: "The body is too large.",
            415: "The body is not declared as JSON, or is encoded.",
        }
    if verb == "get":
        errors[500] = "The row in etcd is no document of this kind."
    return describe(handler, tag=kind.name, name=f"{verb}_{kind.name}", summary=summary, errors=errors)
