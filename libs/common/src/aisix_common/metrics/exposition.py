"""Families as the text Prometheus scrapes, made by prometheus_client in a registry of our own."""

from collections.abc import Iterable
from typing import Final

from .families import Family

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def render(families: Iterable[Family]) -> bytes:
    """The exposition text; HELP and TYPE also for families without a series. Slow: for a thread when there is much."""
    raise NotImplementedError
