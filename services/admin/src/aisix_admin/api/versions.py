"""The versions of one resource: list them, compare two, go back to one, bring a deleted resource back."""

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from aisix_common.errors import Problem
from aisix_common.resources import Kind, Rejected, masked, read

from ..changes import diff
from ..errors import Conflict, Invalid, Unknown
from ..history import History, Version, read_history, shown, with_found
from ..planning import Edit, View
from ..services import Services
from . import shapes
from .collection import described, veiled, written_entry
from .description import gives, takes
from .edge import Handler, answer
from .writing import commit, document_of, optional_document


def listing(kind: Kind[Any], services: Services) -> Handler:
    """GET of all versions that are kept, newest first."""

    async def handler(request: web.Request) -> web.StreamResponse:
        id = request.match_info["id"]
        history = await _history(kind, id, services)
        versions = [_veiled(kind, shown(version), request) for version in reversed(history.versions)]
        return answer({"kind": kind.name, "id": id, "versions": versions})

    gives(handler, shapes.Versions(), "The versions that are kept, newest first, secrets masked.")
    return described(handler, kind, "history_of", f"The versions of one of {kind.name}", one=True)


def comparing(kind: Kind[Any], services: Services) -> Handler:
    """GET of what differs between two versions; secrets are masked in both, so that they never differ."""

    async def handler(request: web.Request) -> web.StreamResponse:
        one, two = (_number(request.query.get(name, ""), f"?{name}") for name in ("from", "to"))
        history = await _history(kind, request.match_info["id"], services)
        found = [_kept(history, number, "?from and ?to") for number in (one, two)]
        if any(version.dropped for version in found):
            raise Invalid("one of these versions was too large to be kept: there is nothing to compare")
        before, after = (_veiled(kind, shown(version), request)["value"] or {} for version in found)
        return answer({"from": one, "to": two, "changes": diff(before, after)})

    gives(handler, shapes.Difference(), "Every field that differs.")
    return described(
        handler, kind, "diff", f"Compare two versions of one of {kind.name}", one=True, query=shapes.DIFF_QUERY
    )


def rolling_back(kind: Kind[Any], services: Services) -> Handler:
    """POST `{"version": N, "set": {...}}`: that version again, with the present credential."""

    async def handler(request: web.Request) -> web.StreamResponse:
        sent = await document_of(request, services)
        number, also = _step(sent)
        if number is None:
            raise Invalid.schema([Problem("/version", "required field is missing")])
        id = request.match_info["id"]

        def decide(view: View) -> Sequence[Edit]:
            row = view.row(kind.name, id)
            if row is None:
                raise Unknown
            version = _kept(_complete(kind, view.history(kind.name, id), row.value, row.revision), number, "/version")
            return [services.decisions.roll_back(kind, row, id, version, also)]

        written, receipt = await commit(request, services, [(kind.name, id)], decide)
        return written_entry(written.edits[0], written.revision, request, receipt)

    gives(handler, shapes.entry(kind), "The resource as it is stored now.")
    takes(handler, shapes.Step(), example={"version": 1})
    return described(
        handler,
        kind,
        "rollback",
        f"Go back to a version of one of {kind.name}",
        one=True,
        writes=True,
        body=True,
        query=shapes.WRITE_QUERY,
    )


def restoring(kind: Kind[Any], services: Services) -> Handler:
    """POST `{"version": N, "set": {...}}`, both optional: a deleted resource as it was last, or in that version."""

    async def handler(request: web.Request) -> web.StreamResponse:
        number, also = _step(await optional_document(request, services))
        id = request.match_info["id"]

        def decide(view: View) -> Sequence[Edit]:
            if view.row(kind.name, id) is not None:
                raise _NotGone(kind.name, id)
            history = view.history(kind.name, id)
            last = next((version for version in reversed(history.versions) if version.value is not None), None)
            if last is None:
                raise Unknown
            version = last if number is None else _kept(history, number, "/version")
            return [services.decisions.restore(kind, id, version, last, also)]

        written, receipt = await commit(request, services, [(kind.name, id)], decide)
        return written_entry(written.edits[0], written.revision, request, receipt)

    gives(handler, shapes.entry(kind), "The resource as it is stored now. A caller key comes back disabled.")
    takes(handler, shapes.Restoration(), required=False)
    return described(
        handler,
        kind,
        "restore",
        f"Bring a deleted one of {kind.name} back",
        one=True,
        writes=True,
        body=True,
        query=shapes.WRITE_QUERY,
    )


class _NotGone(Conflict):
    """The resource that is to be restored exists."""

    def __init__(self, kind: str, id: str) -> None:
        super().__init__(kind, "", id)
        self.message = "the resource exists: only a deleted one is restored; go back to a version with rollback"


async def _history(kind: Kind[Any], id: str, services: Services) -> History:
    """The versions, what others wrote since included. Raises Unknown where there is neither a row nor a history."""
    row, past = await services.store.row_and_history(kind.name, id)
    history = read_history(past.value, past.mod_revision) if past is not None else History()
    if row is not None:
        return _complete(kind, history, row.value, row.mod_revision)
    if past is None:
        raise Unknown
    return history


def _complete(kind: Kind[Any], history: History, value: bytes, revision: int) -> History:
    """`history`, with the row as others wrote it since as its last version."""
    loaded = read(kind, value)
    return history if isinstance(loaded, Rejected) else with_found(history, masked(kind, loaded.value), revision)


def _kept(history: History, number: int, at: str) -> Version:
    version = history.find(number)
    if version is None:
        raise Invalid(f"{at}: there is no such version, or no longer", [Problem(at, "no such version, or no longer")])
    return version


def _step(sent: Mapping[str, Any]) -> tuple[int | None, Mapping[str, Any] | None]:
    """`version` and `set` of a body."""
    problems = [Problem(f"/{name}", "unknown field") for name in sent if name not in ("version", "set")]
    number, also = sent.get("version"), sent.get("set")
    if "version" in sent and (type(number) is not int or number < 1):
        problems.append(Problem("/version", "must be the number of a version"))
    if "set" in sent and not isinstance(also, dict):
        problems.append(Problem("/set", "must be an object"))
    if problems:
        raise Invalid.schema(problems)
    return number, also


def _number(text: str, at: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10):
        raise Invalid(f"the query is wrong: {at} must be the number of a version", [Problem(at, "must be a number")])
    return int(text)


def _veiled(kind: Kind[Any], version: dict[str, Any], request: web.Request) -> dict[str, Any]:
    if version["value"] is not None:
        version["value"] = veiled(kind, dict(version["value"]), request)
    return version
