"""Every route of the admin listener, as values. Adding a kind adds its own."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from aiohttp import web

from aisix_common.resources import ALL_KINDS, API_KEYS, SECRET_PROVIDERS, Kind

from ..openapi import describe
from ..services import Services
from . import audit, collection, pages, playground, probing, rotation, sets, status, versions
from .compat.routes import COMPAT_ROUTES
from .edge import authenticated
from .route import Route

ALIASES: Final = {API_KEYS.name: "apikeys"}
"""Kinds that answer under an older name too."""
_ANY_ID: Final = "{id:[^/]+}"
"""aiohttp's own pattern leaves out braces, which ids of others may hold."""


def _crud(kind: Kind[Any], name: str) -> Sequence[Route]:
    path = f"/admin/v1/{name}"
    one = f"{path}/{{id}}"
    return (
        Route("GET", path, partial(collection.listing, kind)),
        Route("POST", path, partial(collection.creating, kind), writes=True),
        Route("GET", one, partial(collection.getting, kind)),
        Route("PUT", one, partial(collection.replacing, kind), writes=True),
        Route("PATCH", one, partial(collection.patching, kind), writes=True),
        Route("DELETE", one, partial(collection.deleting, kind), writes=True),
        Route("GET", f"{one}/history", partial(versions.listing, kind), stateful=True),
        Route("GET", f"{one}/history/diff", partial(versions.comparing, kind), stateful=True),
        Route("POST", f"{one}/rollback", partial(versions.rolling_back, kind), writes=True),
        Route("POST", f"{one}/restore", partial(versions.restoring, kind), writes=True),
        *((Route("POST", f"{one}/rotate", rotation.rotating, writes=True),) if kind is API_KEYS else ()),
        *((Route("POST", f"{one}/test", probing.testing, writes=True),) if kind is SECRET_PROVIDERS else ()),
    )


ROUTES: Final = (
    *(route for kind in ALL_KINDS for route in _crud(kind, kind.name)),
    Route("GET", "/admin/v1/models/status", status.models_status),  # before `{id}`: no model is read under that id
    Route("GET", "/admin/v1/health", status.health),
    Route("GET", "/admin/v1/instances", status.instances, stateful=True),
    Route("GET", "/admin/v1/audit", audit.auditing, stateful=True),
    Route("GET", "/admin/v1/export", sets.exporting),
    Route("POST", "/admin/v1/validate", sets.validating, writes=True),  # its answers tell what is stored
    Route("POST", "/admin/v1/apply", sets.applying, writes=True),
    Route("POST", "/playground/chat/completions", playground.relaying, admin=False),
    Route("GET", "/livez", status.livez, admin=False),
    Route("GET", "/readyz", status.readyz, admin=False),
)
"""What the OpenAPI document describes, apart from the probes."""

ALIASED: Final = tuple(route for kind in ALL_KINDS if kind.name in ALIASES for route in _crud(kind, ALIASES[kind.name]))
"""The same under older names. They are served and not described: new clients need not know them."""


def mount(app: web.Application, services: Services) -> None:
    """Put all routes on `app`, and the document that describes them."""
    _add(app, services, ROUTES)
    described = list(app.router.routes())
    _add(app, services, ALIASED)
    _add(app, services, COMPAT_ROUTES)
    app.router.add_get("/admin/openapi.json", status.openapi(lambda: describe(described)))
    pages.mount(app)


def _add(app: web.Application, services: Services, routes: Sequence[Route]) -> None:
    for route in routes:
        handler = route.make(services)
        if route.admin:
            handler = authenticated(handler, services, writes=route.writes, stateful=route.stateful, bare=route.bare)
        path = route.path.replace("{id}", _ANY_ID)
        if route.method == "GET":
            app.router.add_get(path, handler)  # answers HEAD, too
        else:
            app.router.add_route(route.method, path, handler)
