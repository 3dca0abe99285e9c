"""Microsoft's libraries behind Azure Key Vault, against a double of the vault and of Entra."""

import socket
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from ssl import create_default_context
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from aisix_common.outbound import open_session
from aisix_common.outbound.addresses import Reach
from aisix_common.outbound.guard import Guard
from aisix_common.resources.secret_providers import Azure
from aisix_common.secret import Secret
from aisix_proxy.secret_managers.azure import AzureClient
from aisix_proxy.secret_managers.base import Away, Context, NoSuchSecret, Refused, Unresolved, Unusable

from .scripted_api import context, scripted_api
from tests.support.authority import authority
from tests.support.azure_vault import AzureVault, azure_vault


@pytest.fixture
async def azure(tmp_path: Path) -> AsyncIterator[AzureVault]:
    async with azure_vault(tmp_path) as azure:
        azure.put("openai", "sk-1")
        azure.put("several", '{"one": "sk-one"}')
        azure.put("disabled", "sk-2", enabled=False)
        yield azure


def _context(azure: AzureVault, environ: Mapping[str, str] | None = None, timeout: float = 30.0) -> Context:
    """With sessions that trust the double's authority."""
    return replace(
        context(environ=environ, timeout=timeout),
        open_session=lambda ca_pem: open_session(Guard(Reach.OPERATOR), azure.ca, timeout=timeout),
    )


def _provider(azure: AzureVault, **fields: object) -> Azure:
    given: dict[str, object] = {
        "vault_url": azure.url,
        "tenant_id": azure.entra.tenant_id,
        "client_id": azure.entra.client_id,
        "client_secret": Secret(azure.entra.client_secret),
        "authority_host": azure.entra.authority,
    }
    return Azure("main", **{**given, **fields})  # type: ignore[arg-type]


class AsMicrosoft(AbstractResolver):
    """Leads the vault's public name and Entra's to their doubles."""

    def __init__(self, azure: AzureVault) -> None:
        self._ports = {"team.vault.azure.net": azure.url, "login.microsoftonline.com": azure.entra.authority}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        at = urlsplit(self._ports[host]).port or 0
        return [ResolveResult(hostname=host, host="127.0.0.1", port=at, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None: ...


def _as_microsoft(azure: AzureVault, environ: Mapping[str, str]) -> Context:
    def opened(ca_pem: str | None) -> aiohttp.ClientSession:
        tls = create_default_context(cadata=azure.ca)
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls, resolver=AsMicrosoft(azure)))

    return replace(context(environ=environ, timeout=30.0), open_session=opened)


async def test_secrets_are_found_with_client_credentials(azure: AzureVault) -> None:
    client = AzureClient(_provider(azure), _context(azure))
    await client.probe()
    assert (await client.fetch(["openai"])).value.reveal() == "sk-1"
    assert (await client.fetch(["several", "one"])).value.reveal() == "sk-one"
    azure.put("openai", "sk-rotated")
    assert (await client.fetch(["openai"])).value.reveal() == "sk-rotated"
    azure.entra.sign_anew()
    assert (await client.fetch(["openai"])).value.reveal() == "sk-rotated", "a new token is had"
    await client.aclose()


async def test_a_vault_that_moves_to_another_tenant_is_followed(azure: AzureVault) -> None:
    client = AzureClient(_provider(azure), _context(azure))
    azure.entra.tenant_id, here = str(uuid.uuid4()), azure.entra.tenant_id
    with pytest.raises(Refused, match="Entra gives the identity no token"):
        await client.fetch(["openai"])
    azure.entra.tenant_id = here
    assert (await client.fetch(["openai"])).value.reveal() == "sk-1"
    await client.aclose()


@pytest.mark.parametrize(("name", "says"), [("missing", "no secret of this name"), ("disabled", "disabled")])
async def test_there_is_no_such_secret(azure: AzureVault, name: str, says: str) -> None:
    client = AzureClient(_provider(azure), _context(azure))
    with pytest.raises(NoSuchSecret, match=says):
        await client.fetch([name])
    await client.aclose()


async def test_what_keeps_the_gateway_out_is_told(azure: AzureVault) -> None:
    client = AzureClient(_provider(azure), _context(azure))

    async def refused() -> str:
        with pytest.raises(Refused) as caught:
            await client.fetch(["openai"])
        return str(caught.value)

    azure.permissions.discard("get")
    assert "ForbiddenByRbac" in await refused()
    azure.firewalled = True
    assert "ForbiddenByFirewall" in await refused()
    azure.firewalled = False
    await client.aclose()

    client = AzureClient(_provider(azure, client_secret=Secret("sk-canary")), _context(azure))
    assert "AADSTS7000215" in (said := await refused())
    assert "canary" not in said
    await client.aclose()


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("at", ["vault", "entra"])
async def test_failures_of_the_service_are_away_and_asked_once(azure: AzureVault, at: str, status: int) -> None:
    client = AzureClient(_provider(azure), _context(azure))
    if at == "vault":
        await client.fetch(["openai"])
    seen = azure.seen if at == "vault" else azure.entra.seen
    seen.clear()
    (azure.faults if at == "vault" else azure.entra.faults).add(status, retry_after="30", times=9)
    with pytest.raises(Away):
        await client.fetch(["openai"])
    await client.aclose()
    assert len([each for each in seen if each.status == status]) == 1


@pytest.mark.parametrize(("fault", "says"), [("cut", "cannot be reached"), ("hang", "did not answer")])
async def test_failures_of_the_connection_are_away(azure: AzureVault, fault: str, says: str) -> None:
    client = AzureClient(_provider(azure), _context(azure, timeout=0.5 if fault == "hang" else 30.0))
    azure.faults.add(cut=fault == "cut", hang=fault == "hang", times=9)
    with pytest.raises(Away, match=says):
        await client.fetch(["openai"])
    await client.aclose()


@pytest.mark.parametrize(
    ("fields", "kind", "says"),
    [
        ({"vault_url": "https://169.254.169.254"}, Away, "metadata service"),
        ({"authority_host": "https://169.254.169.254"}, Away, "metadata service"),
        ({"tenant_id": "no tenant"}, Unusable, "tenant_id"),
    ],
)
async def test_addresses_are_checked(
    azure: AzureVault, fields: dict[str, object], kind: type[Unresolved], says: str
) -> None:
    client = AzureClient(_provider(azure, **fields), _context(azure))
    with pytest.raises(Unresolved, match=says) as caught:
        await client.fetch(["openai"])
    await client.aclose()
    assert type(caught.value) is kind


async def test_what_is_no_vault_is_away_and_redirects_are_not_followed(azure: AzureVault, tmp_path: Path) -> None:
    tls = authority("azure").server(tmp_path, "127.0.0.1")
    async with scripted_api(tls) as other, scripted_api(tls) as elsewhere:
        client = AzureClient(_provider(azure, vault_url=other.address), _context(azure))
        other.says(200, b"<html></html>", {"Content-Type": "text/html"})
        with pytest.raises(Away, match="is not the API"):
            await client.fetch(["openai"])
        other.says(404, b"<html></html>", {"Content-Type": "text/html"})
        with pytest.raises(Away, match="is not the API"):
            await client.fetch(["openai"])
        other.says(307, b"", {"Location": elsewhere.address})
        with pytest.raises(Away, match="HTTP status 307"):
            await client.fetch(["openai"])
        await client.aclose()
    assert elsewhere.asked == []


async def test_the_pods_identity_opens_a_vault_of_microsofts(azure: AzureVault, tmp_path: Path) -> None:
    (token := tmp_path / "token").write_text(azure.entra.workload_token())
    environ = {
        "AZURE_FEDERATED_TOKEN_FILE": str(token),
        "AZURE_TENANT_ID": azure.entra.tenant_id,
        "AZURE_CLIENT_ID": azure.entra.client_id,
        "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com/",
    }
    client = AzureClient(Azure("main", "https://team.vault.azure.net"), _as_microsoft(azure, environ))
    assert (await client.fetch(["openai"])).value.reveal() == "sk-1"
    await client.aclose()


async def test_a_vault_of_microsofts_may_not_ask_for_other_tokens(azure: AzureVault) -> None:
    azure.resource = "https://graph.microsoft.com"
    provider = _provider(azure, vault_url="https://team.vault.azure.net", authority_host=None)
    client = AzureClient(provider, _as_microsoft(azure, {}))
    with pytest.raises(Unusable, match="for something that is not this vault"):
        await client.fetch(["openai"])
    await client.aclose()
    assert azure.entra.seen == []
