"""A handful of fixed GET pages, such as metrics and status, on a listener of their own."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from ..metrics import Metrics
from ..settings import Address
from .listener import Connections, Listener

Page: TypeAlias = Callable[[], Awaitable[tuple[int, str, bytes]]]
"""Answers one GET: status, content type, body."""


def serve_pages(pages: Mapping[str, Page]) -> Connections:
    """Serves exactly these paths to GET and HEAD, 405 to other methods, 404 elsewhere; a page that fails is a 500."""
    raise NotImplementedError


def metrics_listener(
    metrics: Metrics, pages: Mapping[str, Page], *, address: Address, path: str = "/metrics", setting: str
) -> Listener:
    """The listener for Prometheus at `path`, and `pages` (`/status/config`, ...) beside it.

    Raises ConfigurationError when `path` is also the path of a page. `setting` names the address in errors.
    """
    raise NotImplementedError
