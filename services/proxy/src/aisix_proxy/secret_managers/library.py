"""Clients that stand on a vendor's library: the library is an extra, loaded when a provider of its manager is first
used, in a thread, since loading it takes a good part of a second; what is built on it is built once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from .base import Away, Unusable

T = TypeVar("T")


async def loaded(manager: str, extra: str, load: Callable[[], T]) -> T:
    """What `load` gives, which imports and may take its time. Raises Unusable where the library is not installed."""
    try:
        return await asyncio.to_thread(load)
    except ImportError as error:
        if (error.name or "").startswith("aisix"):
            raise  # a mistake of ours
        raise Unusable(
            f"the library for {manager} is not installed: pip install 'aisix-proxy[{extra}]', "
            "or use the proxy's image, which has it"
        ) from None


class Once(Generic[T]):
    """A thing that is made when it is first needed, once for all who need it; what fails is tried anew next time."""

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._lock = asyncio.Lock()
        self._made: T | None = None
        self._closed = False

    async def get(self) -> T:
        """The thing. Raises what making it raises, and Away once it was taken."""
        if self._made is not None:
            return self._made
        async with self._lock:
            if self._closed:
                raise Away("the provider is being changed")
            if self._made is None:
                self._made = await self._make()
            return self._made

    async def take(self) -> T | None:
        """The thing, if it was made, for closing it; it is not made again. Waits for one that is being made."""
        async with self._lock:
            self._closed = True
            made, self._made = self._made, None
            return made
