"""Why a library's call did not come to an answer, told without what the library puts into its messages: URLs, addresses
and bodies. Pure."""

from collections.abc import Iterator

import aiohttp

from .base import Away
from .rest import reason


def unreached(who: str, error: BaseException) -> Away:
    """The reason for an error of a connection to `who`, however the library wrapped what was raised by aiohttp or the
    system."""
    causes = list(_causes(error))
    if any(isinstance(each, TimeoutError) for each in causes):
        return Away(f"{who} did not answer in time")
    for kind in (aiohttp.ClientError, OSError):
        for each in causes:
            if isinstance(each, kind):
                return Away(f"{who} cannot be reached: {reason(each)}")
    return Away(f"{who} cannot be reached")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and whatever is chained to it or lies in it."""
    waiting, seen = [error], set[int]()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = [current.__context__, current.__cause__, getattr(current, "kwargs", {}).get("error"), *current.args]
        waiting += [each for each in inner if isinstance(each, BaseException)]
