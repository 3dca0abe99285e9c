"""The routes of the other dialects. Served and not described: docs/reference/admin-dialects.md tells of them."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from ..route import Route
from . import calls, provider_calls
from .apikeys import ApiKeys
from .models import Models
from .translation import Translation


def _calls(kind: Translation) -> Sequence[Route]:
    path = f"/aisix/admin/{kind.collection.name}"
    one = f"{path}/{{id}}"
    return (
        Route("GET", path, partial(calls.listing, kind), bare=True),
        Route("POST", path, partial(calls.creating, kind), writes=True, bare=True),
        Route("GET", one, partial(calls.getting, kind), bare=True),
        Route("PUT", one, partial(calls.replacing, kind), writes=True, bare=True),
        Route("DELETE", one, partial(calls.deleting, kind), writes=True, bare=True),
    )


def _provider_calls(name: str) -> Sequence[Route]:
    path = f"/apisix/admin/{name}"
    one = f"{path}/{{manager}}/{{id}}"
    return (
        Route("GET", path, provider_calls.listing, bare=True),
        Route("GET", one, provider_calls.getting, bare=True),
        Route("PUT", one, provider_calls.replacing, writes=True, bare=True),
        Route("PATCH", one, provider_calls.patching, writes=True, bare=True),
        Route("DELETE", one, provider_calls.deleting, writes=True, bare=True),
        Route("POST", f"{one}/test", provider_calls.testing, writes=True, bare=True),
    )


COMPAT_ROUTES: Final[tuple[Route, ...]] = (
    *_calls(Models()),
    *_calls(ApiKeys()),
    *_provider_calls("secret_providers"),
    *_provider_calls("secrets"),
)
