"""The tasks of one flow, which stand and fall together: the first that fails ends all of them, and says why."""

import asyncio
from collections.abc import Coroutine
from typing import NoReturn, Self

from aisix_common.tasks import TaskOwner


class Crew:
    """async with Crew() as crew: crew.start(...); await crew.failure()"""

    def __init__(self) -> None:
        self._owner = TaskOwner()
        self._failed = asyncio.Event()
        self._error: BaseException | None = None

    def start(self, part: Coroutine[object, object, None], *, name: str) -> None:
        """Run it in the background. That it returns is no failure."""
        self._owner.spawn(self._watched(part), name=name)

    async def failure(self) -> NoReturn:
        """Wait, for as long as all is well. Raises what the first part failed with."""
        await self._failed.wait()
        assert self._error is not None
        raise self._error

    async def _watched(self, part: Coroutine[object, object, None]) -> None:
        try:
            await part
        except Exception as error:  # noqa: BLE001 - handed on to whoever waits for a failure
            self._error = self._error or error
            self._failed.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._owner.close()
