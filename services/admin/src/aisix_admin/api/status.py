"""What is not in the resources: how the models are doing, the description of this API, and the probes."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from aisix_common import probes
from aisix_common.resources import MODELS, Model, Rejected, read

from ..health import Freshness, Instance, instance, report, statuses
from ..services import Services
from . import shapes
from .description import describe, gives
from .edge import BREATH, Handler, answer


def health(services: Services) -> Handler:
    """GET of the aggregate health; 200 whatever it is."""

    async def handler(request: web.Request) -> web.StreamResponse:
        models = [(id, model.display_name) for id, model in await _models(services)]
        return answer(report(models, await _instances(services), _freshness(services)))

    gives(handler, shapes.Health(), "`status` sums it up: ok, degraded or unhealthy.")
    summary = "How the models are doing, and how fresh the configuration is"
    errors = {401: "No valid admin key.", 503: "etcd is away."}
    return describe(handler, tag="health", name="health", summary=summary, errors=errors)


def models_status(services: Services) -> Handler:
    """GET of how each model is doing; the shape is that of the proxies' `/status/models` (control-plane 5.2)."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return answer(statuses(await _models(services), await _instances(services)))

    gives(
        handler, shapes.ModelStatus(many=True), "Every model, in key order, as the worst of the live proxies sees it."
    )
    summary = "How each model is doing"
    errors = {401: "No valid admin key.", 503: "etcd is away."}
    return describe(handler, tag="health", name="models_status", summary=summary, errors=errors)


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


async def _models(services: Services) -> list[tuple[str, Model]]:
    """Id and resource of every model that can be read."""
    models: list[tuple[str, Model]] = []
    for place, row in enumerate(await services.store.list(MODELS.name), 1):
        loaded = read(MODELS, row.value)
        if not isinstance(loaded, Rejected):
            models.append((row.id, loaded.value))
        if place % BREATH == 0:
            await asyncio.sleep(0)
    return models


async def _instances(services: Services) -> list[Instance]:
    rows = await services.store.run_rows("instances")
    return [one for row in rows if (one := instance(row)) is not None]


def _freshness(services: Services) -> Freshness:
    heard = services.follower.heard_at
    age = None if heard is None else max(0, int((services.clock.now() - heard).total_seconds()))
    return Freshness(services.follower.index.revision, age)
