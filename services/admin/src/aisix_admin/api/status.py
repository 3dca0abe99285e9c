"""What is not in the resources: how the models are doing, the description of this API, and the probes."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web
from marshmallow import Schema, fields

from aisix_common import probes
from aisix_common.model_status import in_order, model_row, render
from aisix_common.resources import MODELS, Model, Rejected, read

from ..health import Freshness, report
from ..services import Services
from . import shapes
from .description import describe, gives
from .edge import BREATH, Handler, answer


class RejectedRow(Schema):
    """A resource that an instance does not serve."""

    kind = fields.String(required=True)
    id = fields.String(required=True)
    reason = fields.String(required=True)


class InstanceModel(Schema):
    """How a model does on one instance."""

    health = fields.Integer(required=True, metadata={"description": "1 failing, 2 failing for long."})
    reason = fields.String()


class InstanceStatus(Schema):
    """One process, as it tells of itself."""

    instance = fields.String(required=True)
    service = fields.String(required=True)
    hostname = fields.String(required=True)
    worker = fields.Integer(required=True, allow_none=True, metadata={"description": "Which of several processes."})
    version = fields.String(required=True)
    started_at = fields.String(required=True)
    connected = fields.Boolean(required=True, metadata={"description": "Whether it hears from etcd."})
    restored = fields.Boolean(required=True, metadata={"description": "It serves what its disk cache held."})
    stopping = fields.Boolean(required=True)
    applied_revision = fields.Integer(required=True)
    config_hash = fields.String(required=True)
    rejected_count = fields.Integer(required=True)
    rejected = fields.List(
        fields.Nested(RejectedRow), required=True, metadata={"description": "The newest, at most 64."}
    )
    models = fields.Dict(
        keys=fields.String(),
        values=fields.Nested(InstanceModel),
        required=True,
        metadata={"description": "By display_name; only those that do not do well."},
    )
    lost_at = fields.String(metadata={"description": "When its row went away without a word."})


def health(services: Services) -> Handler:
    """GET of the aggregate health; 200 whatever it is."""

    async def handler(request: web.Request) -> web.StreamResponse:
        models = [(id, model.display_name) for id, model in await _models(services)]
        return answer(report(models, services.fleet.news(), _freshness(services)))

    gives(handler, shapes.Health(), "`status` sums it up: ok, degraded or unhealthy.")
    summary = "How the models are doing, and how fresh the configuration is"
    errors = {401: "No valid admin key.", 503: "etcd is away."}
    return describe(handler, tag="health", name="health", summary=summary, errors=errors)


def models_status(services: Services) -> Handler:
    """GET of how each model is doing: the same bytes as the proxies' `/status/models` (control-plane 5.2)."""

    async def handler(request: web.Request) -> web.StreamResponse:
        news = services.fleet.news()
        rows = []
        for place, (id, model) in enumerate(in_order(await _models(services)), 1):
            rows.append(model_row(id, model, news))
            if place % BREATH == 0:
                await asyncio.sleep(0)
        return web.Response(body=render(rows), content_type="application/json")

    gives(handler, shapes.ModelStatus(many=True), "Every model, by name, as the worst of the live proxies sees it.")
    summary = "How each model is doing"
    errors = {401: "No valid admin key.", 503: "etcd is away."}
    return describe(handler, tag="health", name="models_status", summary=summary, errors=errors)


def instances(services: Services) -> Handler:
    """GET of the processes that run this gateway, and of those lost within the last ten minutes."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return answer([one.shown() for one in (*services.fleet.live(), *services.fleet.lost())])

    gives(
        handler,
        InstanceStatus(many=True),
        "Those that are there by host, then those that were lost within the last ten minutes, with `lost_at`.",
    )
    summary = "Which proxies run, and how far each has come"
    errors = {401: "No valid admin key."}
    return describe(handler, tag="health", name="instances", summary=summary, errors=errors)


def openapi(make: Callable[[], Mapping[str, Any]]) -> Handler:
    """GET of the description of this API, which `make` makes when it is first asked for."""
    turn, made = asyncio.Lock(), bytearray()

    async def handler(request: web.Request) -> web.StreamResponse:
        async with turn:
            if not made:
                made.extend(await asyncio.to_thread(lambda: msgspec.json.encode(make())))
        return web.Response(body=bytes(made), content_type="application/json")

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
    for place, row in enumerate(await services.rows.list(MODELS.name), 1):
        loaded = read(MODELS, row.value)
        if not isinstance(loaded, Rejected):
            models.append((row.id, loaded.value))
        if place % BREATH == 0:
            await asyncio.sleep(0)
    return models


def _freshness(services: Services) -> Freshness | None:
    if services.file is not None:
        return None
    heard = services.follower.heard_at
    age = None if heard is None else max(0, int((services.clock.now() - heard).total_seconds()))
    return Freshness(services.follower.index.revision, age)
