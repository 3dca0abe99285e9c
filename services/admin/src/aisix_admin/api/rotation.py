"""POST .../api_keys/{id}/rotate: a new key for a caller, shown once; the one before may stay valid for a while."""

from collections.abc import Sequence
from functools import partial

from aiohttp import web

from aisix_common.errors import Problem
from aisix_common.resources import API_KEYS

from ..decisions import require_overlap
from ..errors import Invalid
from ..planning import Edit, View
from ..preconditions import etag
from ..services import Services
from . import shapes
from .collection import described, entry
from .description import gives, takes
from .edge import Handler, answer
from .writing import commit, optional_document


def rotating(services: Services) -> Handler:
    """The body is optional: `{"overlap_seconds": N}`."""

    async def handler(request: web.Request) -> web.StreamResponse:
        sent = await optional_document(request, services)
        unknown = [Problem(f"/{name}", "unknown field") for name in sent if name != "overlap_seconds"]
        if unknown:
            raise Invalid.schema(unknown)
        overlap = require_overlap(sent.get("overlap_seconds", 0))
        id, new, now = request.match_info["id"], services.new_key(), services.clock.now()

        def decide(view: View) -> Sequence[Edit]:
            return [services.decisions.rotate(view.row(API_KEYS.name, id), id, new, overlap, now)]

        written, receipt = await commit(request, services, [(API_KEYS.name, id)], decide)
        shown = entry(API_KEYS, id, written.edits[0].value, written.revision, request)
        body = {"entry": shown, "plaintext": new.reveal(), **receipt}
        return answer(body, headers={"ETag": etag(written.revision)})

    gives(handler, shapes.rotated(), "The entry, and the new key: shown this once.")
    takes(handler, shapes.Rotation(), required=False, example={"overlap_seconds": 3600})
    describe = partial(described, handler, API_KEYS, "rotate", "Give a caller key a new secret")
    return describe(one=True, writes=True, body=True, query=shapes.WRITE_QUERY)
