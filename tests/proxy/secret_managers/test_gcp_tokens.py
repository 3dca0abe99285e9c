"""Tokens from google-auth: for service accounts here, for the pod's own identity in processes with its environment."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from aisix_common.clock import SYSTEM_CLOCK
from aisix_common.outbound import open_session
from aisix_common.outbound.addresses import Reach
from aisix_common.outbound.guard import Guard
from aisix_common.secret import Secret
from aisix_proxy.secret_managers.base import Away, Refused, Unresolved, Unusable
from aisix_proxy.secret_managers.gcp import service_account
from aisix_proxy.secret_managers.gcp_tokens import Tokens

from .scripted_api import context
from tests.support.gcp_secrets import GcpSecrets, gcp_secrets

CANARY = "sk-canary-22d9"


@pytest.fixture
async def gcp(tmp_path: Path) -> AsyncIterator[GcpSecrets]:
    async with gcp_secrets(tmp_path) as gcp:
        yield gcp


def _tokens(gcp: GcpSecrets, changed: Mapping[str, object] | None = None, timeout: float = 30.0) -> Tokens:
    trusting = replace(
        context(timeout=timeout),
        open_session=lambda ca_pem: open_session(Guard(Reach.OPERATOR), gcp.ca, timeout=timeout),
        clock=SYSTEM_CLOCK,
    )
    return Tokens(service_account(Secret(gcp.tokens.service_account(**(changed or {})))), trusting)


async def test_one_token_is_had_by_all_who_ask_at_once(gcp: GcpSecrets) -> None:
    tokens = _tokens(gcp)
    got = await asyncio.gather(*(tokens.get() for _ in range(5)))
    await tokens.aclose()
    assert len(set(got)) == 1
    assert len(gcp.tokens.seen) == 1


async def test_it_needs_none_of_the_threads_that_requests_need(gcp: GcpSecrets) -> None:
    tokens, over, loop = _tokens(gcp), threading.Event(), asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    hangs = loop.run_in_executor(None, over.wait, 60)
    try:
        async with asyncio.timeout(30):
            assert await tokens.get()
    finally:
        over.set()
        await hangs
        await tokens.aclose()


async def test_a_token_is_exchanged_before_it_ends(gcp: GcpSecrets) -> None:
    gcp.tokens.token_lifetime = 299
    tokens = _tokens(gcp)
    assert await tokens.get() != await tokens.get()
    await tokens.aclose()


async def test_only_the_token_that_was_not_taken_is_forgotten(gcp: GcpSecrets) -> None:
    tokens = _tokens(gcp)
    first = await tokens.get()
    tokens.forget("another")
    assert await tokens.get() == first
    tokens.forget(first)
    assert await tokens.get() != first
    await tokens.aclose()


@pytest.mark.parametrize(
    ("changed", "kind", "says"),
    [
        ({"client_email": "stranger@other.iam.gserviceaccount.com"}, Refused, "no token"),
        ({"private_key": CANARY}, Unusable, "private_key that cannot be used"),
        ({"token_uri": "https://169.254.169.254/token"}, Away, "metadata service"),
        ({"token_uri": "https://no-such-host.invalid/token"}, Away, "leads to no address"),
    ],
)
async def test_what_is_wrong_is_told(
    gcp: GcpSecrets, changed: dict[str, object], kind: type[Unresolved], says: str
) -> None:
    tokens = _tokens(gcp, changed)
    with pytest.raises(Unresolved, match=says) as caught:
        await tokens.get()
    await tokens.aclose()
    assert type(caught.value) is kind
    assert CANARY not in str(caught.value)


async def test_silence_is_away(gcp: GcpSecrets) -> None:
    gcp.tokens.faults.add(hang=True, times=9)
    tokens = _tokens(gcp, timeout=0.2)
    with pytest.raises(Away, match="did not answer"):
        await tokens.get()
    await tokens.aclose()


FETCH = """
import asyncio, os, socket, sys
from dataclasses import replace
import aiohttp
from aiohttp.abc import AbstractResolver
from aisix_common.clock import SYSTEM_CLOCK
from aisix_common.resources.secret_providers import Gcp
from aisix_proxy.secret_managers.base import Unresolved
from aisix_proxy.secret_managers.gcp import GcpClient
from tests.proxy.secret_managers.scripted_api import context

class AsGoogle(AbstractResolver):
    async def resolve(self, host, port=0, family=socket.AF_INET):
        assert host == "secretmanager.googleapis.com"
        return [dict(hostname=host, host="127.0.0.1", port=int(sys.argv[1]), family=socket.AF_INET, proto=0, flags=0)]
    async def close(self): ...

def opened(ca_pem):
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=AsGoogle()))

async def fetched():
    client = GcpClient(Gcp("main", sys.argv[2]), replace(context(timeout=30), open_session=opened, clock=SYSTEM_CLOCK))
    try:
        print((await client.fetch(["ambient"])).value.reveal())
    except Unresolved as error:
        print(type(error).__name__, error)
    await client.aclose()

async def main():
    await fetched()
    if os.environ.pop("GOOGLE_APPLICATION_CREDENTIALS", None):
        await fetched()

asyncio.run(main())
"""


async def _fetched(gcp: GcpSecrets, environ: Mapping[str, str]) -> str:
    """What a process with this environment fetches: google-auth reads its own process's."""
    gcp.put("ambient", "sk-ambient")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", FETCH, gcp.url.rpartition(":")[2], gcp.project_id),
        env={"SSL_CERT_FILE": str(gcp.ca_file), "HOME": "/nowhere", **environ},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    return said.decode().strip()


async def test_a_pod_on_googles_kubernetes_has_the_metadata_servers_token(gcp: GcpSecrets) -> None:
    host = gcp.tokens.metadata_host
    assert await _fetched(gcp, {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host}) == "sk-ambient"


async def test_a_pod_elsewhere_exchanges_its_own_token(gcp: GcpSecrets, tmp_path: Path) -> None:
    (token := tmp_path / "token").write_text(gcp.tokens.workload_token())
    (credentials := tmp_path / "credentials.json").write_text(gcp.tokens.external_account(token))
    environ = {"GOOGLE_APPLICATION_CREDENTIALS": str(credentials), "NO_GCE_CHECK": "true"}
    with_identity, without = (await _fetched(gcp, environ)).splitlines()
    assert with_identity == "sk-ambient"
    assert without.startswith("Refused the pod has no identity of Google's")
