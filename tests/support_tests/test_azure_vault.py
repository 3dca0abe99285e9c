"""The Azure of the tests: Microsoft's own libraries get along with it, and what it must refuse it does."""

import re
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from azure.core.exceptions import HttpResponseError
from azure.identity.aio import ClientSecretCredential, WorkloadIdentityCredential
from azure.keyvault.secrets.aio import SecretClient

from tests.support.azure_vault import AzureVault, azure_vault
from tests.support.entra import ASSERTION_TYPE

SCOPE = "https://vault.azure.net/.default"


@pytest_asyncio.fixture
async def azure(tmp_path: Path) -> AsyncIterator[AzureVault]:
    async with azure_vault(tmp_path) as running:
        yield running


@pytest_asyncio.fixture
async def session(azure: AzureVault) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=azure.ca))
    async with aiohttp.ClientSession(connector=connector) as opened:
        yield opened


def form(azure: AzureVault, **changed: str) -> dict[str, str]:
    wanted = {"client_id": azure.entra.client_id, "client_secret": azure.entra.client_secret}
    return {"grant_type": "client_credentials", "scope": SCOPE, **wanted, **changed}


async def ask(azure: AzureVault, session: aiohttp.ClientSession, wanted: dict[str, str]) -> tuple[int, dict[str, Any]]:
    url = f"{azure.entra.authority}/{azure.entra.tenant_id}/oauth2/v2.0/token"
    async with session.post(url, data=wanted) as answer:
        return answer.status, await answer.json()


async def bearer(azure: AzureVault, session: aiohttp.ClientSession, **changed: str) -> dict[str, str]:
    status, document = await ask(azure, session, form(azure, **changed))
    assert status == 200, document
    return {"Authorization": f"Bearer {document['access_token']}"}


async def test_microsofts_libraries_read_it(azure: AzureVault, tmp_path: Path) -> None:
    first = azure.put("openai", "sk-1", content_type="text/plain")
    azure.put("openai", "sk-2", expires=1)
    file = tmp_path / "token"
    file.write_text(azure.entra.workload_token())
    trust: dict[str, Any] = {"connection_verify": str(azure.ca_file), "authority": azure.entra.authority}
    ids = azure.entra.tenant_id, azure.entra.client_id
    credentials = (
        ClientSecretCredential(*ids, azure.entra.client_secret, **trust),
        WorkloadIdentityCredential(tenant_id=ids[0], client_id=ids[1], token_file_path=str(file), **trust),
    )
    for credential in credentials:
        client = SecretClient(
            azure.url, credential, connection_verify=str(azure.ca_file), verify_challenge_resource=False
        )
        async with credential, client:
            current = await client.get_secret("openai")
            assert (current.value, current.properties.enabled) == ("sk-2", True)
            old = await client.get_secret("openai", first)
            assert (old.value, old.properties.content_type) == ("sk-1", "text/plain")
            with pytest.raises(HttpResponseError, match="SecretNotFound"):
                await client.get_secret("nothing")
    challenged = [seen.status for seen in azure.seen if "authorization" not in seen.headers]
    assert challenged == [401]  # the library remembers a vault's challenge for the whole process


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({}, 200, 0),
        ({"client_secret": "wrong"}, 401, 7000215),
        ({"client_id": "another"}, 400, 700016),
        ({"grant_type": "password"}, 400, 70003),
        ({"scope": "https://vault.azure.net"}, 400, 1002012),
    ],
)
async def test_a_client_secret_is_checked(
    azure: AzureVault, session: aiohttp.ClientSession, changed: dict[str, str], status: int, code: int
) -> None:
    got, document = await ask(azure, session, form(azure, **changed))
    assert (got, document.get("error_codes", [0])) == (status, [code])
    assert azure.entra.client_secret not in str(document)


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({}, 0),
        ({"signer": "a stranger"}, 700027),
        ({"lifetime": -1.0}, 700024),
        ({"iss": "https://elsewhere.test"}, 700211),
        ({"aud": "https://kubernetes.default.svc"}, 700212),
        ({"sub": "system:serviceaccount:aisix:other"}, 700213),
    ],
)
async def test_an_assertion_is_checked(
    azure: AzureVault, session: aiohttp.ClientSession, claims: dict[str, Any], code: int
) -> None:
    assertion = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": azure.entra.workload_token(**claims)}
    wanted = form(azure, **assertion)
    del wanted["client_secret"]
    _, document = await ask(azure, session, wanted)
    assert document.get("error_codes", [0]) == [code]


async def test_the_vault_checks_its_callers(azure: AzureVault, session: aiohttp.ClientSession) -> None:
    azure.put("openai", "sk-1")
    azure.put("off", "sk-2", enabled=False)
    good = await bearer(azure, session)
    elsewhere = await bearer(azure, session, scope="https://management.azure.com/.default")

    async def refusal(name: str, headers: dict[str, str], version: str | None = "7.4") -> tuple[int, str | None]:
        query = {} if version is None else {"api-version": version}
        async with session.get(f"{azure.url}/secrets/{name}", params=query, headers=headers) as answer:
            error = (await answer.json()).get("error", {})
            where = answer.headers.get("WWW-Authenticate", "")
            assert (answer.status == 401) == bool(re.search(f'authorization="{azure.entra.authority}/', where))
            return answer.status, error.get("innererror", error).get("code")

    assert await refusal("openai", good) == (200, None)
    assert await refusal("openai", {}) == (401, "Unauthorized")
    assert await refusal("openai", elsewhere) == (401, "Unauthorized")
    assert await refusal("openai", good, None) == (400, "BadParameter")
    assert await refusal("openai", good, "7.9") == (400, "BadParameter")
    assert await refusal("open_ai", good) == (400, "BadParameter")
    assert await refusal("nothing", good) == (404, "SecretNotFound")
    assert await refusal("off", good) == (403, "SecretDisabled")
    azure.permissions.discard("get")
    assert await refusal("openai", good) == (403, "ForbiddenByRbac")
    azure.firewalled = True
    assert await refusal("openai", good) == (403, "ForbiddenByFirewall")
    azure.firewalled = False
    azure.entra.sign_anew()
    assert await refusal("openai", good) == (401, "Unauthorized")


async def test_a_bearer_ends(tmp_path: Path) -> None:
    clock = [time.time()]
    async with azure_vault(tmp_path, now=lambda: clock[0]) as azure:
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=azure.ca))
        async with aiohttp.ClientSession(connector=connector) as session:
            azure.put("openai", "sk-1")
            azure.entra.token_lifetime = 60
            headers = await bearer(azure, session)
            for later, status in ((59, 200), (1, 401)):
                clock[0] += later
                async with session.get(f"{azure.url}/secrets/openai?api-version=7.4", headers=headers) as answer:
                    assert answer.status == status


async def test_faults(azure: AzureVault, session: aiohttp.ClientSession) -> None:
    azure.put("openai", "sk-1")
    headers = await bearer(azure, session)
    url = f"{azure.url}/secrets/openai?api-version=7.4"
    azure.faults.add(429, retry_after="7", times=2)
    for status in (429, 429, 200):
        async with session.get(url, headers=headers) as answer:
            assert answer.status == status
            assert answer.headers.get("Retry-After") == ("7" if status == 429 else None)
    azure.faults.add(cut=True, times=2)
    with pytest.raises(aiohttp.ClientConnectionError):
        await session.get(url, headers=headers)
    azure.faults.add(hang=True)
    with pytest.raises(TimeoutError):
        await session.get(url, headers=headers, timeout=aiohttp.ClientTimeout(total=0.2))
    azure.entra.faults.add(503)
    assert (await ask(azure, session, form(azure)))[0] == 503
    assert [seen.status for seen in azure.seen] == [429, 429, 200, 0, 0, 0]
