"""The routes of the older dialect, as the members of `api.routes.Route`, which mounts them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

from ...services import Services
from ..edge import Handler
from . import calls
from .apikeys import ApiKeys
from .models import Models
from .translation import Translation

Call: TypeAlias = tuple[str, str, Callable[[Services], Handler]]
"""Method, path, and what makes the handler."""


def _calls(kind: Translation) -> Sequence[Call]:
    path = f"/aisix/admin/{kind.collection.name}"
    return (
        ("GET", path, partial(calls.listing, kind)),
        ("POST", path, partial(calls.creating, kind)),
        ("GET", f"{path}/{{id}}", partial(calls.getting, kind)),
        ("PUT", f"{path}/{{id}}", partial(calls.replacing, kind)),
        ("DELETE", f"{path}/{{id}}", partial(calls.deleting, kind)),
    )


COMPAT_CALLS: Final[tuple[Call, ...]] = (*_calls(Models()), *_calls(ApiKeys()))
"""All of them take an admin key; all but the GETs write. They are served and not described: new clients need not know
them, and docs/reference/admin-dialects.md tells of them."""
