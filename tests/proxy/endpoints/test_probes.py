"""The probes of the public listener."""

import pytest

from tests.support.builders import make, serving, standard
from tests.support.raw_http import ask, request


async def test_ready_once_configured() -> None:
    async with serving(world := make()) as port:
        unready = await ask(port, request("GET", "/readyz"))
        assert (unready.status, unready.body) == (
            503,
            b"[+]shutdown ok\n[-]config failed: not ready\nreadyz check failed",
        )
        world.lifecycle.applied = True
        assert (await ask(port, request("GET", "/readyz"))).body == b"ok"
    assert world.lines == []


@pytest.mark.parametrize("query", ["?verbose", "?verbose=1", "?a=b&verbose"])
async def test_verbose(query: str) -> None:
    async with serving(make(standard())) as port:
        answer = await ask(port, request("GET", "/livez" + query))
    assert answer.body == b"[+]ping ok\n[+]shutdown ok\nlivez check passed\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_alive_until_told_to_stop() -> None:
    async with serving(world := make(standard())) as port:
        assert (await ask(port, request("GET", "/livez?verb"))).body == b"ok"
        world.lifecycle.begin_drain()
        assert (await ask(port, request("GET", "/livez"))).status == 503
