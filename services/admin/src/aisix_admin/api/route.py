"""What a route of the admin listener is. `routes` lists them, `compat.routes` those of the older dialect."""

from collections.abc import Callable
from dataclasses import dataclass

from ..services import Services
from .edge import Handler


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path. `make` builds the handler."""

    method: str
    path: str
    make: Callable[[Services], Handler]
    admin: bool = True
    """Whether it takes an admin key."""
    writes: bool = False
    """Not for viewers, and not where resources come from a file."""
    stateful: bool = False
    """Not where there is no etcd."""
    bare: bool = False
    """Whether the key may stand alone in Authorization, without `Bearer`."""
