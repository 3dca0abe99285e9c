"""Every route of the admin listener, as values. Adding a kind to KINDS adds its five."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aiohttp import web

from aisix_common.resources import API_KEYS, KINDS, Kind

from ..openapi import describe
from ..services import Services
from . import collection, status
from .edge import Handler, authenticated


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path. `make` builds the handler; `admin` says whether it takes an admin key."""

    method: str
    path: str
    make: Callable[[Services], Handler]
    admin: bool = True


ALIASES: Final = {API_KEYS.name: "apikeys"}
"""Kinds that answer under an older name too."""


def _crud(kind: Kind[Any], name: str) -> Sequence[Route]:
    path = f"/admin/v1/{name}"
    return (
        Route("GET", path, partial(collection.listing, kind)),
        Route("POST", path, partial(collection.creating, kind)),
        Route("GET", f"{path}/{{id}}", partial(collection.getting, kind)),
        Route("PUT", f"{path}/{{id}}", partial(collection.replacing, kind)),
        Route("DELETE", f"{path}/{{id}}", partial(collection.deleting, kind)),
    )


ROUTES: Final = (
    *(route for kind in KINDS for route in _crud(kind, kind.name)),
    Route("GET", "/admin/v1/models/status", status.models_status),  # before `{id}`: no model is read under that id
    Route("GET", "/admin/v1/health", status.health),
    Route("GET", "/livez", status.livez, admin=False),
    Route("GET", "/readyz", status.readyz, admin=False),
)
"""What the OpenAPI document describes, apart from the probes."""

ALIASED: Final = tuple(route for kind in KINDS if kind.name in ALIASES for route in _crud(kind, ALIASES[kind.name]))
"""The same under older names. They are served and not described: new clients need not know them."""


def mount(app: web.Application, services: Services) -> None:
    """Put all routes on `app`, and the document that describes them."""
    _add(app, services, ROUTES)
    document = describe(app)
    _add(app, services, ALIASED)
    app.router.add_get("/admin/openapi.json", status.openapi(document))


def _add(app: web.Application, services: Services, routes: Sequence[Route]) -> None:
    for route in routes:
        handler = route.make(services)
        if route.admin:
            handler = authenticated(handler, services)
        if route.method == "GET":
            app.router.add_get(route.path, handler)  # answers HEAD, too
        else:
            app.router.add_route(route.method, route.path, handler)
