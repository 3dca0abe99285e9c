"""The calls on secret providers as API7 Gateway has them, by manager and name instead of by id.

`secret_providers` says what a document means, the decisions of `/admin/v1` and the store do the rest.
"""

import asyncio
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiohttp import web

from aisix_common.errors import Problem
from aisix_common.resources import SECRET_PROVIDERS, Rejected, SecretProvider, read
from aisix_common.secrets.reference import MANAGERS

from ...errors import Busy, CallerError, Invalid, Undecodable, Unknown
from ...planning import Edit, View
from ...preconditions import etag
from ...rows import Row
from ...services import Services
from ...store import Decide, Written
from ..collection import without_references
from ..edge import BREATH, WHO, Handler, answer
from ..probing import outcome
from ..writing import commit, conditions, document_of, optional_document
from .envelope import Missing, require_sane
from .secret_providers import COLLECTION, inward, outward, patched, place
from .translation import typed

_KIND: Final = SECRET_PROVIDERS.name
_GROUP: Final = "gateway_group_id"
_USUAL_PAGE: Final = 20
_LARGEST_PAGE: Final = 1000


class NoSuchManager(CallerError):
    """The path names no secret manager."""

    status = 404

    def __init__(self) -> None:
        super().__init__(f"there is no such secret manager: they are {', '.join(MANAGERS)}")


def grouped(handler: Handler) -> Handler:
    """`handler`, for who means this gateway: it is one group, called `default`."""

    @functools.wraps(handler)
    async def only_ours(request: web.Request) -> web.StreamResponse:
        if any(group != "default" for group in request.query.getall(_GROUP, [])):
            reason = "must be `default`, or be left out: this gateway is one group"
            raise Invalid(f"the query is wrong: ?{_GROUP} {reason}", [Problem(f"?{_GROUP}", reason)])
        return await handler(request)

    return only_ours


def listing(services: Services) -> Handler:
    """GET of all, or of `?manager=`, in the order of their names; a page where the query asks for one."""

    async def handler(request: web.Request) -> web.StreamResponse:
        manager = request.query.get("manager")
        if manager is not None and manager not in MANAGERS:
            raise NoSuchManager
        page = _page(request.query)
        found: list[SecretProvider] = []
        for number, row in enumerate(await services.rows.list(_KIND), 1):
            loaded = read(SECRET_PROVIDERS, row.value)
            if isinstance(loaded, Rejected):
                services.log.warning("row left out of a list", kind=_KIND, id=row.id, reason=loaded.message)
            elif manager is None or loaded.value.identity.startswith(f"{manager}/"):
                found.append(loaded.value)
            if number % BREATH == 0:
                await asyncio.sleep(0)
        found.sort(key=lambda value: value.identity)
        return answer({"list": [_shown(value, request) for value in found[page]], "total": len(found)})

    return grouped(handler)


def getting(services: Services) -> Handler:
    """GET of one."""

    async def handler(request: web.Request) -> web.StreamResponse:
        identity = _identity(request)
        try:
            row = await services.rows.get(_KIND, _id_of(identity, services))
        except Unknown:
            raise Missing(COLLECTION, identity) from None
        loaded = read(SECRET_PROVIDERS, row.value)
        if isinstance(loaded, Rejected):
            raise Undecodable(_KIND, Problem("", loaded.message))
        if loaded.value.identity != identity:
            raise Missing(COLLECTION, identity)
        tag = {"ETag": etag(row.revision)}
        if conditions(request).unmodified(row.revision):
            return web.Response(status=304, headers=tag)
        return answer({"value": _shown(loaded.value, request)}, headers=tag)

    return grouped(handler)


def replacing(services: Services) -> Handler:
    """PUT: the whole document, of what exists and of what does not."""

    async def handler(request: web.Request) -> web.StreamResponse:
        identity = _identity(request)
        require_sane(request.match_info["id"])
        sent = await document_of(request, services)
        id = _id_of(identity, services) if _known(identity, services) else _free_id(identity, services)

        def decide(view: View) -> Sequence[Edit]:
            return [_edit(services, identity, id, view.row(_KIND, id), sent, "replaced")]

        written, receipt = await _commit(services, request, identity, id, decide)
        return _written(written, receipt, request)

    return grouped(handler)


def patching(services: Services) -> Handler:
    """PATCH: a JSON merge patch (RFC 7396) on what GET shows."""

    async def handler(request: web.Request) -> web.StreamResponse:
        identity = _identity(request)
        sent = await document_of(request, services)
        id = _id_of(identity, services)

        def decide(view: View) -> Sequence[Edit]:
            row = _required(view, id, identity)
            current = typed(SECRET_PROVIDERS, row)
            if current is None:
                raise Undecodable(_KIND, Problem("", "it cannot be patched"))
            return [_edit(services, identity, id, row, patched(current, sent), "patched")]

        written, receipt = await _commit(services, request, identity, id, decide)
        return _written(written, receipt, request)

    return grouped(handler)


def deleting(services: Services) -> Handler:
    """DELETE of one."""

    async def handler(request: web.Request) -> web.StreamResponse:
        identity = _identity(request)
        id = _id_of(identity, services)

        def decide(view: View) -> Sequence[Edit]:
            return [services.decisions.delete(SECRET_PROVIDERS, _required(view, id, identity), id)]

        _, receipt = await _commit(services, request, identity, id, decide)
        return answer({**COLLECTION.removed(identity), **receipt})

    return grouped(handler)


def testing(services: Services) -> Handler:
    """POST .../test, as under /admin/v1; a provider of config.yaml has a name, too, and is asked for by it."""

    async def handler(request: web.Request) -> web.StreamResponse:
        identity = _identity(request)
        sent = await optional_document(request, services)
        manager, _, name = identity.partition("/")
        if name not in services.decisions.references.names(manager):
            raise Missing(COLLECTION, identity)
        return answer((await outcome(identity, sent, services, request)).shown())

    return grouped(handler)


def _edit(services: Services, identity: str, id: str, row: Row | None, sent: Mapping[str, Any], action: str) -> Edit:
    """Create or replace. Raises Invalid with problems at their places in what was sent."""
    manager, _, name = identity.partition("/")
    current = typed(SECRET_PROVIDERS, row)
    if current is not None and current.identity != identity:
        raise Busy  # another provider took the id a moment ago: another id will be found
    document, problems = inward(manager, name, sent, current)
    if problems:
        raise Invalid.schema(problems)
    try:
        if row is None:
            return services.decisions.create(SECRET_PROVIDERS, id, document)[0]
        return services.decisions.replace(SECRET_PROVIDERS, row, id, document, action)
    except Invalid as error:
        raise Invalid.schema([place(problem, manager, sent) for problem in error.problems]) from None


async def _commit(
    services: Services, request: web.Request, identity: str, id: str, decide: Decide
) -> tuple[Written, Mapping[str, Any]]:
    try:
        return await commit(request, services, [(_KIND, id)], decide)
    except Unknown:
        raise Missing(COLLECTION, identity) from None


def _written(written: Written, receipt: Mapping[str, Any], request: web.Request) -> web.Response:
    edit = written.edits[0]
    status = 201 if edit.action == "created" else 200
    return answer({"value": _shown(edit.value, request), **receipt}, status, headers={"ETag": etag(written.revision)})


def _required(view: View, id: str, identity: str) -> Row:
    """The row, if it is the provider that is meant. Raises Unknown."""
    row = view.row(_KIND, id)
    current = typed(SECRET_PROVIDERS, row)
    if row is None or (current is not None and current.identity != identity):
        raise Unknown
    return row


def _shown(value: SecretProvider, request: web.Request) -> dict[str, Any]:
    shown = outward(value)
    return without_references(shown) if request[WHO].role == "viewer" else shown


def _identity(request: web.Request) -> str:
    manager = request.match_info["manager"]
    if manager not in MANAGERS:
        raise NoSuchManager
    return f"{manager}/{request.match_info['id']}"


def _known(identity: str, services: Services) -> bool:
    return bool(services.follower.index.holders(_KIND, identity))


def _id_of(identity: str, services: Services) -> str:
    """The id of the row that has this name, else the one it would get."""
    return min(services.follower.index.holders(_KIND, identity), default=_usual_id(identity))


def _free_id(identity: str, services: Services) -> str:
    usual = _usual_id(identity)
    return usual if services.follower.index.get(_KIND, usual) is None else services.new_id()


def _usual_id(identity: str) -> str:
    return identity.replace("/", ".", 1)


def _page(query: Mapping[str, str]) -> slice:
    """What of the list is asked for. Raises Invalid."""
    if "page" not in query and "page_size" not in query:
        return slice(None)
    number = _number(query, "page", 1, 10**6)
    size = _number(query, "page_size", _USUAL_PAGE, _LARGEST_PAGE)
    return slice((number - 1) * size, number * size)


def _number(query: Mapping[str, str], name: str, usual: int, most: int) -> int:
    text = query.get(name, str(usual))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        reason = f"must be a whole number from 1 to {most}"
        raise Invalid(f"the query is wrong: ?{name} {reason}", [Problem(f"?{name}", reason)])
    return int(text)
