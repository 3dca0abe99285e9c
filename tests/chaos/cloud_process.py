"""The stand-in Cloud as a process that is killed and comes back at the same port with what it had."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.support.etcd import free_port
from tests.support.gateway import until

START_SECONDS: Final = 30.0


class CloudProcess:
    """`python -m tests.support.cloud`, steered through its control port."""

    def __init__(self, folder: Path, http: aiohttp.ClientSession) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._http = http
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.described: dict[str, Any] = {}
        """What it printed at its last start."""

    @property
    def env_id(self) -> str:
        """The environment that the tests use."""
        return str(self.described["environments"][0]["env_id"])

    async def start(self) -> None:
        """Start it and wait until it can be used."""
        command = [sys.executable, "-m", "tests.support.cloud", "--port", str(self._port)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--folder", str(self._folder)], stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            line = await asyncio.to_thread(self._process.stdout.readline)
        assert line, f"the Cloud did not start: {(self._folder / 'log').read_text()[-2000:]}"
        self.described = json.loads(line)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone; its etcd goes with it."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    async def put(self, kind: str, row_id: str, document: Any) -> None:
        """Write a row, however often the Cloud dies over it."""

        async def written() -> bool:
            url = f"{self.described['control']}/rows/{self.env_id}/{kind}/{row_id}"
            async with self._http.put(url, json=document) as response:
                return response.status == 200

        await until(written, 60)

    async def delete(self, kind: str, row_id: str) -> None:
        """Delete a row, as `put`."""

        async def deleted() -> bool:
            url = f"{self.described['control']}/rows/{self.env_id}/{kind}/{row_id}"
            async with self._http.delete(url) as response:
                return response.status == 200

        await until(deleted, 60)

    async def rows(self) -> dict[str, Any]:
        """`<kind>/<id>` and document of all rows."""
        found: dict[str, Any] = await self._get(f"/rows/{self.env_id}")
        return found

    async def events(self) -> list[dict[str, Any]]:
        """The usage events that it has, each once."""
        return [each["document"] for each in await self._get("/events")]

    async def state(self) -> dict[str, Any]:
        """What it counted."""
        found: dict[str, Any] = await self._get("/state")
        return found

    async def _get(self, path: str) -> Any:
        async with self._http.get(self.described["control"] + path) as response:
            return await response.json()
