"""The one call of Azure Key Vault that we make, over azure-identity and azure-keyvault-secrets. Imported in a thread,
when it is first needed.

Both send over a session of ours, whose addresses are checked; but for the machine's identity, which comes from the
metadata service: nothing of a row has a say in that.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import aiohttp
from azure.core import exceptions as wrong
from azure.core.pipeline.transport import AioHttpTransport
from azure.identity import CredentialUnavailableError
from azure.identity.aio import ClientSecretCredential, ManagedIdentityCredential, WorkloadIdentityCredential
from azure.keyvault.secrets._shared import http_challenge_cache as challenges  # there is no public way to it
from azure.keyvault.secrets.aio import SecretClient

from aisix_common.resources.secret_providers import Azure

from .azure import NOT_A_VAULT, WHO, is_public, refusal
from .base import Away, Refused, Unresolved, Unusable
from .unreached import unreached

Credential: TypeAlias = ClientSecretCredential | ManagedIdentityCredential | WorkloadIdentityCredential

_FAILURES: Final = (wrong.AzureError, ValueError)
_ENTRA_CODE: Final = re.compile(r"AADSTS\d{1,9}")


class Calls:
    """Calls of one provider. Made on the event loop; connects to nothing until the first call."""

    def __init__(self, provider: Azure, environ: Mapping[str, str], session: aiohttp.ClientSession) -> None:
        """The session is closed with it. Raises Unusable."""
        self._provider = provider
        self._vault_url = provider.vault_url
        self._environ = environ
        self._session = session
        self._metadata: aiohttp.ClientSession | None = None
        self._client = self._made()

    async def text(self, name: str) -> str:
        """The current value of a secret. Raises Unresolved."""
        client = self._client
        try:
            return await self._read(client, name)
        except wrong.ClientAuthenticationError as error:
            if not self._is_stale(error):
                raise self._failure(error) from None
        except _FAILURES as error:
            raise self._failure(error) from None
        if self._client is client:
            self._client = self._made()
        try:
            return await self._read(self._client, name)
        except _FAILURES as error:
            raise self._failure(error) from None

    async def aclose(self) -> None:
        """Close the connections. The clients own none."""
        await self._session.close()
        if self._metadata is not None:
            await self._metadata.close()

    async def _read(self, client: SecretClient, name: str) -> str:
        secret = await client.get_secret(name)
        if secret.id is None or not isinstance(secret.value, str):
            raise Away(NOT_A_VAULT)
        return secret.value

    def _made(self) -> SecretClient:
        """A client that knows nothing from before: neither tokens nor the vault's challenge, which the library keeps
        for the whole process. Else a vault that moved to another tenant would stay out of reach."""
        challenges.remove_challenge_for_url(self._vault_url)
        # When to ask again is the cache's to say.
        options: dict[str, Any] = {"retry_total": 0, "permit_redirects": False}
        ours = AioHttpTransport(session=self._session, session_owner=False)
        try:
            return SecretClient(
                self._vault_url,
                self._credential({**options, "transport": ours}),
                # A vault says for what the token shall be. Under Microsoft's domains that must be the vault itself;
                # elsewhere (a cloud of one's own) the library cannot tell.
                verify_challenge_resource=is_public(self._vault_url),
                transport=ours,
                **options,
            )
        except ValueError:
            raise Unusable(f"{WHO}: vault_url, authority_host or tenant_id is not well-formed") from None

    def _credential(self, options: dict[str, Any]) -> Credential:
        provider, environ = self._provider, self._environ
        if provider.client_secret is not None:
            return ClientSecretCredential(
                provider.tenant_id or "",
                provider.client_id or "",
                provider.client_secret.reveal(),
                authority=provider.authority_host or environ.get("AZURE_AUTHORITY_HOST"),
                **options,
            )
        client_id = environ.get("AZURE_CLIENT_ID")
        token_file = environ.get("AZURE_FEDERATED_TOKEN_FILE")
        if token_file:
            return WorkloadIdentityCredential(
                tenant_id=environ.get("AZURE_TENANT_ID"),
                client_id=client_id,
                token_file_path=token_file,
                authority=environ.get("AZURE_AUTHORITY_HOST"),
                **options,
            )
        if self._metadata is None:
            self._metadata = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        transport = AioHttpTransport(session=self._metadata, session_owner=False)
        return ManagedIdentityCredential(client_id=client_id, transport=transport)

    def _is_stale(self, error: wrong.ClientAuthenticationError) -> bool:
        """Whether what the library remembers may be to blame: the vault does not take the token, or the credential was
        not even asked for one, for a tenant that it is not of."""
        if isinstance(error, CredentialUnavailableError):
            return False
        return error.response is None or self._of_vault(error)

    def _failure(self, error: Exception) -> Unresolved:
        """What an error of the libraries means."""
        if isinstance(error, ValueError):
            if "challenge" not in str(error):  # an answer that is no JSON
                return Away(NOT_A_VAULT)
            return Unusable(f"{WHO} asks for a token for something that is not this vault: check vault_url")
        if isinstance(error, CredentialUnavailableError):
            return Refused(
                f"{WHO}: the pod has no identity: give it a workload or managed identity, or the provider credentials"
            )
        if isinstance(error, wrong.HttpResponseError):
            status = error.status_code or 0
            if isinstance(error, wrong.DecodeError):
                return Away(NOT_A_VAULT)
            if isinstance(error, wrong.ClientAuthenticationError) and not self._of_vault(error):
                return _entra(error, status)
            inner = (error.error.innererror or {}) if error.error is not None else {}
            code = (error.error.code or "") if error.error is not None else ""
            return refusal(status, code, str(inner.get("code") or ""))
        return unreached(f"{WHO}, or Microsoft Entra", error)

    def _of_vault(self, error: wrong.HttpResponseError) -> bool:
        request = getattr(error.response, "request", None)
        return str(getattr(request, "url", "")).startswith(self._vault_url)


def _entra(error: wrong.ClientAuthenticationError, status: int) -> Unresolved:
    """What an error of Microsoft Entra means, of which its code alone is told."""
    if status >= 500 or status == 429:
        return Away(f"Microsoft Entra fails or throttles us (HTTP status {status})")
    found = _ENTRA_CODE.search(str(error.message))
    shown = found[0] if found is not None else f"HTTP status {status}" if status else "no answer that can be read"
    return Refused(f"Microsoft Entra gives the identity no token for {WHO} ({shown})")
