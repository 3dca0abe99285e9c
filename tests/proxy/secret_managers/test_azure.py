"""Azure Key Vault: what may be asked, where the pod's identity may go, and what a vault's errors mean. The calls
themselves: test_azure_calls."""

import pytest

from aisix_common.resources.secret_providers import Azure
from aisix_common.secret import Secret
from aisix_proxy.secret_managers.azure import AzureClient, is_public, refusal
from aisix_proxy.secret_managers.base import Away, NoSuchSecret, Refused, Unresolved, Unusable

from .scripted_api import context


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://team.vault.azure.net", True),
        ("https://Team.Vault.Azure.NET/", True),
        ("https://team.vault.usgovcloudapi.net", True),
        ("https://team.vault.azure.net.evil.example", False),
        ("https://evilvault.azure.net", False),
        ("https://evil.example/.vault.azure.net", False),
        ("https://10.0.0.7", False),
    ],
)
def test_which_vaults_are_microsofts(url: str, expected: bool) -> None:
    assert is_public(url) is expected


@pytest.mark.parametrize(
    ("status", "code", "inner", "kind", "says"),
    [
        (404, "SecretNotFound", "", NoSuchSecret, "no secret of this name"),
        (404, "", "", Away, "is not the API"),
        (403, "Forbidden", "SecretDisabled", NoSuchSecret, "disabled"),
        (403, "Forbidden", "ForbiddenByRbac", Refused, "Key Vault Secrets User"),
        (403, "Forbidden", "ForbiddenByFirewall", Refused, "firewall"),
        (403, "Forbidden", "", Refused, "may not read this secret"),
        (401, "Unauthorized", "", Refused, "the vault's tenant"),
        (429, "Throttled", "", Away, "throttles"),
        (503, "ServiceUnavailable", "", Away, "ServiceUnavailable"),
        (400, "BadParameter", "", Refused, "BadParameter"),
        (302, "", "", Away, "HTTP status 302"),
    ],
)
def test_errors_have_their_kind(status: int, code: str, inner: str, kind: type[Unresolved], says: str) -> None:
    error = refusal(status, code, inner)
    assert type(error) is kind
    assert says in str(error)


def test_a_code_that_is_none_is_not_shown() -> None:
    assert "canary" not in str(refusal(500, "<b>sk-canary</b>", "sk-canary"))


OWN = {"tenant_id": "t", "client_id": "c", "client_secret": Secret("s")}


@pytest.mark.parametrize(
    ("provider", "says"),
    [
        (Azure("main", "http://team.vault.azure.net"), "vault_url must begin with https://"),
        (Azure("main", "https://vault.internal"), "vault_url needs client credentials"),
        (
            Azure("main", "https://team.vault.azure.net", authority_host="https://login.evil.example"),
            "authority_host needs client credentials",
        ),
        (
            Azure("main", "https://vault.internal", "t", "c", Secret("s"), authority_host="http://login.internal"),
            "authority_host must begin with https://",
        ),
    ],
)
def test_providers_that_cannot_be_used(provider: Azure, says: str) -> None:
    with pytest.raises(Unusable, match=says):
        AzureClient(provider, context())


async def test_a_name_that_no_secret_can_have_is_not_asked_for() -> None:
    client = AzureClient(Azure("main", "https://vault.internal", "t", "c", Secret("s")), context())
    with pytest.raises(NoSuchSecret, match="letters, digits and dashes"):
        await client.fetch(["under_score"])
    await client.aclose()
