"""Asks worker processes over their private sockets what they counted and how they are, with a deadline.

What a worker answered last stands for it while it is slow: a sum without it would make counters go backwards, which
Prometheus takes for a restart.
"""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import aiohttp
import msgspec

from ..logs import get_logger
from ..metrics import Family
from ..service.pages import FAMILIES
from .place import Place
from .status import PageAnswer

DEADLINE_SECONDS: Final = 2.0

_log = get_logger(__name__)
_decoder: Final = msgspec.msgpack.Decoder(list[Family])


class Worker:
    """One worker as its parent sees it. Opens its client in the loop it is made in; `aclose` when done."""

    def __init__(self, place: Place, *, deadline: float = DEADLINE_SECONDS) -> None:
        """`deadline`, in seconds, holds for each question."""
        self._index = place.index
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=str(place.socket), limit=4),
            timeout=aiohttp.ClientTimeout(total=deadline),
        )
        self._families: Sequence[Family] = ()
        self._pages: dict[str, PageAnswer] = {}

    async def families(self) -> Sequence[Family]:
        """What it has counted; its last answer when it does not answer now."""
        answer = await self._ask(FAMILIES)
        if answer is not None and answer[0] == 200:
            self._families = await asyncio.to_thread(_decoder.decode, answer[2])
        return self._families

    async def page(self, path: str) -> PageAnswer | None:
        """Its answer at `path`; its last one when it does not answer now; None when it never did."""
        answer = await self._ask(path)
        if answer is not None:
            self._pages[path] = answer
        return self._pages.get(path)

    async def _ask(self, path: str) -> PageAnswer | None:
        try:
            async with self._session.get(f"http://worker{path}") as response:
                return response.status, response.headers.get("Content-Type", ""), await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            _log.debug("a worker did not answer", worker=self._index, path=path, error=type(error).__name__)
            return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()


class Fleet:
    """All workers as one."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers

    async def families(self) -> list[Sequence[Family]]:
        """What each has counted."""
        return await asyncio.gather(*(worker.families() for worker in self._workers))

    async def pages(self, path: str) -> list[PageAnswer | None]:
        """What each answers at `path`."""
        return await asyncio.gather(*(worker.page(path) for worker in self._workers))
