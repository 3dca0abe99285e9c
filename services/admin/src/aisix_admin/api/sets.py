"""POST /validate (a dry run), POST /apply (a set of documents in one transaction), GET /export (the same set)."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

from aisix_common.errors import Problem
from aisix_common.resources import BY_NAME, EXTERNAL_KINDS, KINDS, Rejected, masked, read

from ..errors import Conflict, Forbidden, InUse, Invalid, TooLarge
from ..examples import DOCUMENTS, SET
from ..planning import Edit, View, require_few
from ..preconditions import Conditions
from ..services import Services
from ..sets import Member, edits_of, placed, read_set
from ..store import Dangling
from . import shapes
from .description import describe, gives, takes
from .edge import BREATH, WHO, Handler, answer, encoded
from .writing import commit, conditions, document_of, manner

_BODY_ERRORS: Final[Mapping[int, str]] = {
    400: "Not JSON, or documents break rules: `errors` lists all, each at its place in the body.",
    401: "No valid admin key.",
    403: "The admin key is a viewer's.",
    408: "The body did not arrive in time.",
    413: "The body or the set is too large.",
    415: "The body is not declared as JSON, or is encoded.",
    503: "etcd is away, or others kept writing.",
}


def validating(services: Services) -> Handler:
    """A dry run of one document (`{"kind", "value", "id"?}`) or of a set, as `apply` takes it. Always 200."""

    async def handler(request: web.Request) -> web.StreamResponse:
        body = await document_of(request, services)
        one = "kind" in body or "value" in body
        try:
            members = _members({"resources": [body]} if one else body, services)
            edits = await _check(request, services, members, all_of_them=one)
        except (Invalid, Conflict, InUse, TooLarge) as error:
            problems = error.problems or (Problem("", error.message),)
            cut = "/resources/0" if one else ""
            shown = [{"path": each.path.removeprefix(cut), "message": each.reason} for each in problems]
            return answer({"valid": False, "errors": shown})
        if one:
            # Never what was sent, which may hold secrets: what a GET would show.
            return answer({"valid": True, "value": masked(edits[0].kind, edits[0].value)})
        return answer({"valid": True, "changes": [_told(edit) for edit in edits]})

    gives(handler, shapes.Validation(), "`valid`, and what is wrong or what would be written.")
    takes(handler, shapes.Candidate(), example={"kind": "models", "value": DOCUMENTS["models"]})
    summary = "Check documents without writing them"
    return describe(handler, tag="sets", name="validate", summary=summary, errors=_BODY_ERRORS)


async def _check(
    request: web.Request, services: Services, members: Sequence[Member], *, all_of_them: bool
) -> Sequence[Edit]:
    def decide(view: View) -> Sequence[Edit]:
        return edits_of(members, view, services.decisions, services.sealing.clear, all_of_them=all_of_them)

    try:
        return await services.store.check([member.place for member in members], decide, manner(request))
    except (Dangling, Conflict) as error:
        raise placed(error, members) from None


def applying(services: Services) -> Handler:
    """All of a set, or nothing of it and a report of every problem."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if conditions(request) != Conditions():
            what = "a set takes no If-Match and no If-None-Match, which are about one resource"
            raise Invalid(f"{what}: write those with PUT or PATCH")
        members = _members(await document_of(request, services), services)

        def decide(view: View) -> Sequence[Edit]:
            return edits_of(members, view, services.decisions, services.sealing.clear)

        try:
            written, receipt = await commit(request, services, [member.place for member in members], decide)
        except (Dangling, Conflict) as error:
            raise placed(error, members) from None
        done = {edit.place: edit.action for edit in written.edits}
        results = [
            {"kind": member.kind.name, "id": member.id, "action": done.get(member.place, "unchanged")}
            for member in members
        ]
        return answer({"results": results, "revision": written.revision, **receipt})

    gives(handler, shapes.SetWritten(), "What was done with each member; all of it at one revision.")
    takes(handler, shapes.ResourceSet(), example=SET)
    errors = {**_BODY_ERRORS, 409: "A name is in use, or others refer to what is deleted, or file mode."}
    summary = "Write a set of documents in one transaction"
    return describe(handler, tag="sets", name="apply", summary=summary, errors=errors, query=shapes.WRITE_QUERY)


def _members(body: Mapping[str, Any], services: Services) -> list[Member]:
    # Before they are looked at: a body has room for many thousands, each with something wrong to tell.
    require_few(sum(len(each) for each in map(body.get, ("resources", "delete")) if isinstance(each, list)))
    return read_set(body, services.follower.index, services.new_id, services.decisions.references.text)


def exporting(services: Services) -> Handler:
    """Everything there is as a set that `apply` takes; secrets are `***`, which keeps what is stored."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if not request[WHO].writes:
            raise Forbidden
        wanted = request.query.getall("kind", [])
        if any(name not in BY_NAME for name in wanted):
            raise Invalid("the query is wrong: ?kind must be a kind", [Problem("?kind", "must be a kind of resource")])
        resources: list[bytes] = []
        for kind in (*EXTERNAL_KINDS, *KINDS):  # references lead to secret providers
            if wanted and kind.name not in wanted:
                continue
            for place, row in enumerate(await services.rows.list(kind.name), 1):
                loaded = read(kind, row.value)
                if isinstance(loaded, Rejected):
                    services.log.warning("row left out of an export", kind=kind.name, id=row.id, reason=loaded.message)
                else:
                    member = {"kind": kind.name, "id": row.id, "value": masked(kind, loaded.value)}
                    resources.append(msgspec.json.encode(member))
                if place % BREATH == 0:
                    await asyncio.sleep(0)
        return encoded(b'{"resources":[' + b",".join(resources) + b"]}")

    gives(handler, shapes.ResourceSet(), "All resources, in an order in which they can be written.")
    errors: Mapping[int, str] = {
        400: "The query is wrong.",
        401: "No valid admin key.",
        403: "The admin key is a viewer's.",
        503: "etcd is away.",
    }
    summary = "All resources as one set"
    return describe(handler, tag="sets", name="export", summary=summary, errors=errors, query=shapes.EXPORT_QUERY)


def _told(edit: Edit) -> dict[str, str]:
    return {"kind": edit.kind.name, "id": edit.id, "action": edit.action}
