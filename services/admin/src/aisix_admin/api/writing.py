"""What every writing call has around its decision: who asks, under which conditions, and the receipt.

Handlers of all dialects write through `commit`; they bring what is to be decided, and shape the answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from aisix_common.errors import Problem
from aisix_common.resources import BY_NAME

from ..audit import Actor
from ..body import parse_object
from ..errors import Invalid
from ..fleet import parse_wait
from ..index import Place
from ..planning import View
from ..preconditions import Conditions
from ..services import Services
from ..store import Decide, Manner, Written
from .edge import REQUEST, WHO
from .intake import read_body


async def document_of(request: web.Request, services: Services) -> dict[str, Any]:
    """The JSON object in the body."""
    return parse_object(await read_body(request, services.body_seconds))


async def optional_document(request: web.Request, services: Services) -> dict[str, Any]:
    """The same where a call needs no body: nothing sent is an empty object."""
    return await document_of(request, services) if request.body_exists else {}


def conditions(request: web.Request) -> Conditions:
    """`If-Match` and `If-None-Match`."""
    match, none_match = (request.headers.getall(name, None) for name in ("If-Match", "If-None-Match"))
    return Conditions.read(
        None if match is None else ", ".join(match), None if none_match is None else ", ".join(none_match)
    )


def flag(request: web.Request, name: str) -> bool:
    """A query parameter that is on or off: `?force=true`. Raises Invalid for anything but true and false."""
    text = request.query.get(name, "false").lower()
    if text not in ("true", "false"):
        raise Invalid(f"the query is wrong: ?{name} must be true or false", [Problem(f"?{name}", "true or false")])
    return text == "true"


def wait_of(request: web.Request) -> float | None:
    """Seconds that the caller wants to wait for the proxies, or None for no receipt. Raises Invalid."""
    if "wait" not in request.query:
        return None
    try:
        return parse_wait(request.query["wait"])
    except ValueError as error:
        raise Invalid(f"the query is wrong: ?wait: {error}", [Problem("?wait", str(error))]) from None


def manner(request: web.Request) -> Manner:
    """Who asks, and how."""
    admin = request[WHO]
    actor = Actor(admin.name, request.remote or "", request.get(REQUEST, ""))
    # Only what is deleted may lose its history: an edit must not erase who made the ones before.
    purge = flag(request, "purge") and request.method == "DELETE"
    return Manner(actor, force=flag(request, "force"), purge=purge)


async def commit(
    request: web.Request, services: Services, targets: Sequence[Place], decide: Decide
) -> tuple[Written, Mapping[str, Any]]:
    """Write, log it, and wait for the proxies where the caller asked to: the members that go into the answer.

    For one target the conditions of the request are asked before `decide`.
    """
    asked, how, wait = conditions(request), manner(request), wait_of(request)
    newest: dict[bool, int] = {}

    def conditional(view: View) -> Sequence[Any]:
        newest.update(_newest(view, targets))
        if len(targets) == 1:
            row = view.row(*targets[0])
            asked.require(row.revision if row is not None else None)
        return decide(view)

    written = await services.store.write(targets, conditional, how)
    for told in written.told:
        services.log.info(
            "resource written",
            action=told.action,
            kind=told.kind,
            id=told.id,
            changed=list(told.changed),
            revision=written.revision,
            admin_key=how.actor.who,
            address=how.actor.address,
            request_id=how.actor.request_id,
        )
    if wait is None:
        return written, {}
    # Where nothing was to be written, the proxies need no more than what stood there already.
    needs = {BY_NAME[told.kind].external: written.revision for told in written.told} or newest
    return written, {"applied": await services.fleet.receipt(written.revision, wait, needs)}


def _newest(view: View, targets: Sequence[Place]) -> Mapping[bool, int]:
    """By root, the newest revision of the targets."""
    found: dict[bool, int] = {}
    for kind, id in targets:
        row, root = view.row(kind, id), BY_NAME[kind].external
        found[root] = max(found.get(root, 0), 0 if row is None else row.revision)
    return found
