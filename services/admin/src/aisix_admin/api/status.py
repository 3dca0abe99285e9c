"""What is not about one kind: `/admin/v1/health`, `/admin/openapi.json` and the probes."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from aisix_common import probes
from aisix_common.resources import MODELS, Rejected, read

from ..health import Freshness, instance, report
from ..services import Services
from . import shapes
from .description import describe, gives
from .edge import Handler, answer


def health(services: Services) -> Handler:
    """GET of the aggregate health; 200 whatever it is."""

    async def handler(request: web.Request) -> web.StreamResponse:
        models = []
        for row in await services.store.list(MODELS.name):
            loaded = read(MODELS, row.value)
            if not isinstance(loaded, Rejected):
                models.append((row.id, loaded.value.display_name))
        rows = await services.store.run_rows("instances")
        alive = [one for row in rows if (one := instance(row)) is not None]
        return answer(report(models, alive, _freshness(services)))

    gives(handler, shapes.Health(), "`status` sums it up: ok, degraded or unhealthy.")
    summary = "How the models are doing, and how fresh the configuration is"
    errors = {401: "No valid admin key.", 503: "etcd is away."}
    return describe(handler, tag="health", name="health", summary=summary, errors=errors)


def openapi(document: Mapping[str, Any]) -> Handler:
    """GET of the description of this API."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return answer(document)

    return handler


def livez(services: Services) -> Handler:
    """GET: whether the process should go on living."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return _probe(probes.livez(draining=services.lifecycle.draining, verbose="verbose" in request.query))

    return handler


def readyz(services: Services) -> Handler:
    """GET: whether requests may be sent here. etcd going away later does not change it."""

    async def handler(request: web.Request) -> web.StreamResponse:
        applied = services.follower.index.listed
        verbose = "verbose" in request.query
        return _probe(probes.readyz(draining=services.lifecycle.draining, applied=applied, verbose=verbose))

    return handler


def _probe(result: probes.ProbeAnswer) -> web.Response:
    return web.Response(status=result.status, body=result.body.encode(), headers=dict(probes.HEADERS))


def _freshness(services: Services) -> Freshness:
    heard = services.follower.heard_at
    age = None if heard is None else max(0, int((services.clock.now() - heard).total_seconds()))
    return Freshness(services.follower.index.revision, age)
