"""Azure Key Vault (`$secret://azure/<provider>/<name>[/<json key>]`), over Microsoft's libraries, which are an extra.

The pod's own identity - a workload identity, or the machine's - opens whatever the pod may open. So its tokens go to
Key Vaults under Microsoft's own domains alone, and come from where the deployment says, whatever stands in a row: else
whoever writes rows could have them sent to himself. With client credentials, which the row brings itself, any
vault may be named.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from aisix_common.resources.secret_providers import Azure

from .base import Away, Context, Fetched, NoSuchSecret, Refused, Unresolved, Unusable
from .keyed import part, split
from .library import Once, loaded
from .rest import within

if TYPE_CHECKING:
    from .azure_calls import Calls

WHO: Final = "Azure Key Vault"
NOT_A_VAULT: Final = f"what answers is not the API of {WHO}: check vault_url, and what stands before it"
PROBED: Final = "aisix-probe-no-such-secret"
_DOMAINS: Final = (".vault.azure.net", ".vault.azure.cn", ".vault.usgovcloudapi.net")
_NAME: Final = re.compile(r"[0-9A-Za-z-]{1,127}")
_CODE: Final = re.compile(r"[A-Za-z]{1,64}")
_FORBIDDEN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ForbiddenByRbac": "the identity has no role that lets it read this secret (Key Vault Secrets User)",
        "ForbiddenByPolicy": "the vault's access policies do not let the identity read secrets",
        "AccessDenied": "the vault's access policies do not let the identity read secrets",
        "ForbiddenByFirewall": "the vault's firewall does not let the gateway's address in",
        "ForbiddenByConnection": "the vault is open to its private endpoint alone",
    }
)


def is_public(vault_url: str) -> bool:
    """Whether a vault lies under one of Microsoft's domains, where nobody else can be. A private endpoint does, too:
    it is only resolved to another address."""
    return (urlsplit(vault_url).hostname or "").lower().endswith(_DOMAINS)


def refusal(status: int, code: str, inner: str) -> Unresolved:
    """What an error that a vault answered with means: `code` and `inner` are its names for it, or empty."""
    shown = next((name for name in (inner, code) if _CODE.fullmatch(name)), f"HTTP status {status}")
    if status == 404 and code:
        return NoSuchSecret(f"{WHO} has no secret of this name")
    if status == 403 and inner.startswith("Secret"):  # SecretDisabled and its like
        return NoSuchSecret(f"{WHO}: the secret is disabled, or outside of its dates ({shown})")
    if status == 403:
        return Refused(f"{WHO}: {_FORBIDDEN.get(inner, 'the identity may not read this secret')} ({shown})")
    if status == 401:
        return Refused(f"{WHO} does not take the identity's token: is it of the vault's tenant? ({shown})")
    if status == 429:
        return Away(f"{WHO} throttles us")
    if status >= 500:
        return Away(f"{WHO} fails ({shown})")
    return Refused(f"{WHO} refuses the request ({shown})") if code else Away(f"{NOT_A_VAULT} ({shown})")


class AzureClient:
    """The client of one provider."""

    def __init__(self, provider: Azure, context: Context) -> None:
        for url, field in ((provider.vault_url, "vault_url"), (provider.authority_host, "authority_host")):
            if url is not None and not url.startswith("https://"):
                raise Unusable(f"{field} must begin with https://: tokens go there")
        if provider.client_secret is None and provider.authority_host is not None:
            raise Unusable(
                "authority_host needs client credentials: where the pod's own identity is exchanged for a token says "
                "AZURE_AUTHORITY_HOST in the proxy's environment"
            )
        if provider.client_secret is None and not is_public(provider.vault_url):
            raise Unusable(
                f"vault_url needs client credentials: the pod's own identity goes to vaults under {', '.join(_DOMAINS)}"
            )
        self._provider = provider
        self._context = context
        self._calls: Once[Calls] = Once(self._open)

    async def fetch(self, path: Sequence[str]) -> Fetched:
        """As `ManagerClient.fetch`."""
        name, key = split(path)
        if _NAME.fullmatch(name) is None:
            raise NoSuchSecret(f"{WHO} has no such secret: names there hold letters, digits and dashes")
        async with within(WHO, self._context.timeout):
            calls = await self._calls.get()
            text = await calls.text(name)
        return Fetched(part(text, key))

    async def probe(self) -> None:
        """As `ManagerClient.probe`: the vault says that there is no secret of a name that none has."""
        async with within(WHO, self._context.timeout):
            calls = await self._calls.get()
            try:
                await calls.text(PROBED)
            except NoSuchSecret:
                return

    async def aclose(self) -> None:
        """As `ManagerClient.aclose`."""
        calls = await self._calls.take()
        if calls is not None:
            await calls.aclose()

    async def _open(self) -> "Calls":
        calls = await loaded(WHO, "azure", _load)
        session = self._context.open_session(None)
        try:
            return calls(self._provider, self._context.environ, session)
        except BaseException:
            await session.close()
            raise


def _load() -> "type[Calls]":
    from .azure_calls import Calls

    return Calls
