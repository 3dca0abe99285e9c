"""The routes of the older dialect. Served and not described: docs/reference/admin-dialects.md tells of them."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from ..route import Route
from . import calls
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


COMPAT_ROUTES: Final[tuple[Route, ...]] = (*_calls(Models()), *_calls(ApiKeys()))
