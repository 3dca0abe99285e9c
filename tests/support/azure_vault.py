"""A double of one Azure Key Vault, written from its public protocol (learn.microsoft.com: "Key Vault REST API",
"Authentication, requests and responses", "Azure Key Vault REST API error codes"), and of the Microsoft Entra it trusts
(entra.py). Two origins, as in life: a token must reach only the vault, a client secret only Entra.

    async with azure_vault(tmp_path) as azure:
        azure.url                                # "https://127.0.0.1:34568", the vault
        azure.entra.authority                    # "https://127.0.0.1:34567", where tokens come from
        azure.entra.tenant_id, azure.entra.client_id, azure.entra.client_secret
        azure.put("openai", "sk-1")              # a new version, which is current; returns its id
        azure.put("openai", "sk-2", enabled=False, expires=1790000000)
        azure.delete("openai")
        azure.entra.workload_token()             # what the kubelet would put into AZURE_FEDERATED_TOKEN_FILE
        azure.permissions.discard("get")         # 403, by RBAC; azure.firewalled = True: by the vault's firewall
        azure.entra.sign_anew()                  # tokens given until now are refused with 401 and a challenge
        azure.faults.add(429, retry_after="2")   # see doubles.py; azure.entra.faults likewise
        azure.seen, azure.entra.seen             # the requests, with what they were answered

The origins are https, as Microsoft's libraries demand. Their certificate holds for 127.0.0.1, localhost,
login.microsoftonline.com and *.vault.azure.net, and is signed by `azure.ca` (PEM; `azure.ca_file`: as a file). To trust
it: `ssl.create_default_context(cadata=azure.ca)`; azure's transports take `connection_verify=str(azure.ca_file)`; a
whole process trusts it with SSL_CERT_FILE=<ca_file> (Python's ssl, so aiohttp, too) and REQUESTS_CA_BUNDLE=<ca_file>
(requests). azure-keyvault-secrets refuses a vault whose name is not below the challenge's resource: use the names
above with a resolver of yours, or `verify_challenge_resource=False`.

Checked: what entra.py says; and at the vault the bearer's signature, audience and times, api-version and permissions.
Not there: deleted secrets, and whatever writes.
"""

import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from .authority import authority
from .doubles import Fault, Faults, Seen, later, listening, watched
from .entra import Entra

API_VERSIONS: Final = frozenset(
    {"2016-10-01", "7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "2025-07-01", "2026-04-01"}
)
_REASONS: Final = {
    429: ("Throttled", "Request was not processed because too many requests were received."),
    500: ("InternalServerError", "An internal server error has occurred."),
    503: ("ServiceUnavailable", "The service is unavailable."),
}


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a secret. `expires` and `created`: seconds since 1970."""

    id: str
    value: str
    enabled: bool
    expires: int | None
    content_type: str | None
    created: int


class AzureVault:
    """The vault and the Entra it trusts; see the module."""

    def __init__(self, ca_file: Path, resource: str, now: Callable[[], float]) -> None:
        self.entra = Entra(now)
        self.url = ""
        """Its origin, once it listens."""
        self.ca_file = ca_file
        self.ca = authority("azure").pem
        self.resource = resource
        """The audience that the vault wants, and says in its challenge."""
        self.permissions = {"get", "list"}
        self.firewalled = False
        self.faults = Faults()
        self.seen: list[Seen] = []
        self._secrets: dict[str, list[Version]] = {}
        self._now = now

    def put(
        self,
        name: str,
        value: str,
        *,
        enabled: bool = True,
        expires: int | None = None,
        content_type: str | None = None,
    ) -> str:
        """Add a version, which is the current one; returns its id."""
        assert re.fullmatch("[0-9a-zA-Z-]{1,127}", name), "Key Vault has no such names"
        version = Version(uuid.uuid4().hex, value, enabled, expires, content_type, int(self._now()))
        self._secrets.setdefault(name, []).append(version)
        return version.id

    def delete(self, name: str) -> None:
        """All versions of a secret are gone."""
        del self._secrets[name]

    def app(self) -> web.Application:
        """Key Vault's data plane, as far as secrets are read."""
        app = web.Application(middlewares=[watched(self.faults, self.seen, self._fault)])
        app.router.add_get("/secrets", self._list)
        app.router.add_get("/secrets/{name}", self._get)
        app.router.add_get("/secrets/{name}/", self._get)  # as Microsoft's own library asks for the current version
        app.router.add_get("/secrets/{name}/{version}", self._get)
        return app

    async def _get(self, request: web.Request) -> web.Response:
        if refused := self._refused(request, "get"):
            return refused
        name, wanted = request.match_info["name"], request.match_info.get("version", "")
        if not re.fullmatch("[0-9a-zA-Z-]{1,127}", name):
            return _error(400, "BadParameter", f"The request URI contains an invalid name: {name}")
        versions = self._secrets.get(name, [])
        found = [each for each in versions if each.id == wanted] if wanted else versions[-1:]
        if not found:
            at = f"{name}/{wanted}" if wanted else name
            missing = (
                f"A secret with (name/id) {at} was not found in this key vault. If you recently deleted this secret "
                "you may be able to recover it using the correct recovery command. For help resolving this issue, "
                "please see https://go.microsoft.com/fwlink/?linkid=2125182"
            )
            return _error(404, "SecretNotFound", missing)
        if not found[0].enabled:
            # An expired secret is still given out; a disabled one is not.
            return _error(403, "Forbidden", "Operation get is not allowed on a disabled secret.", "SecretDisabled")
        content_type = {} if found[0].content_type is None else {"contentType": found[0].content_type}
        return _json(200, {"value": found[0].value, **content_type, **self._described(name, found[0], versioned=True)})

    async def _list(self, request: web.Request) -> web.Response:
        if refused := self._refused(request, "list"):
            return refused
        most = request.query.get("maxresults", "25")
        if not most.isdecimal() or not 1 <= int(most) <= 25:
            return _error(400, "BadParameter", "Invalid number of maximum results. Must be between 1 and 25.")
        start = int(request.query.get("$skiptoken", "0"))
        named = [self._described(name, self._secrets[name][-1], versioned=False) for name in sorted(self._secrets)]
        query = f"api-version={request.query['api-version']}&maxresults={most}&$skiptoken={start + int(most)}"
        more = start + int(most) < len(named)
        page = named[start : start + int(most)]
        return _json(200, {"value": page, "nextLink": f"{self.url}/secrets?{query}" if more else None})

    def _described(self, name: str, version: Version, versioned: bool) -> dict[str, Any]:
        times = {"created": version.created, "updated": version.created}
        expires = {} if version.expires is None else {"exp": version.expires}
        recovery = {"recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90}
        at = f"{self.url}/secrets/{name}" + (f"/{version.id}" if versioned else "")
        return {"id": at, "attributes": {"enabled": version.enabled, **expires, **times, **recovery}, "tags": {}}

    def _refused(self, request: web.Request, operation: str) -> web.Response | None:
        if self.firewalled:
            client = (
                "Client address is not authorized and caller is not a trusted service.\r\nClient address: 127.0.0.1"
            )
            return _error(403, "Forbidden", client, "ForbiddenByFirewall")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = scheme.lower() == "bearer" and token
        missing = "AKV10000: Request is missing a Bearer or PoP token."
        wrong = self.entra.wrong_token(token, self.resource) if given else missing
        if wrong:
            answer = _error(401, "Unauthorized", wrong)
            where = f'authorization="{self.entra.authority}/{self.entra.tenant_id}", resource="{self.resource}"'
            answer.headers["WWW-Authenticate"] = f"Bearer {where}"
            return answer
        version = request.query.get("api-version")
        if version is None:
            return _error(400, "BadParameter", "The api-version query parameter must be specified.")
        if version not in API_VERSIONS:
            unknown = (
                f"The specified version ({version}) is not recognized. Consider using the latest supported version."
            )
            return _error(400, "BadParameter", unknown)
        if operation not in self.permissions:
            return _error(403, "Forbidden", self._unauthorized(operation), "ForbiddenByRbac")
        return None

    def _unauthorized(self, operation: str) -> str:
        action = "getSecret/action" if operation == "get" else "readMetadata/action"
        caller = f"appid={self.entra.client_id};oid={self.entra.object_id};iss={self.entra.issuer}"
        return (
            "Caller is not authorized to perform action on resource.\r\n"
            "If role assignments, deny assignments or role definitions were changed recently, please observe "
            f"propagation time.\r\nCaller: {caller}\r\nAction: 'Microsoft.KeyVault/vaults/secrets/{action}'\r\n"
            "Assignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: null \r\n"
            "Vault: test;location=westeurope"
        )

    def _fault(self, fault: Fault) -> web.Response:
        code, said = _REASONS.get(fault.status, ("Error", "The request failed."))
        return later(_error(fault.status, code, said), fault)


def _json(status: int, document: object) -> web.Response:
    headers = {
        "x-ms-keyvault-region": "westeurope",
        "x-ms-request-id": str(uuid.uuid4()),
        "x-ms-keyvault-service-version": "1.9.1.0",
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    return web.Response(
        status=status, text=json.dumps(document), content_type="application/json", charset="utf-8", headers=headers
    )


def _error(status: int, code: str, said: str, inner: str | None = None) -> web.Response:
    detail = {} if inner is None else {"innererror": {"code": inner}}
    return _json(status, {"error": {"code": code, "message": said, **detail}})


@asynccontextmanager
async def azure_vault(
    folder: Path, *, resource: str = "https://vault.azure.net", now: Callable[[], float] = time.time
) -> AsyncIterator[AzureVault]:
    """Both while the context lasts; `folder` gets their certificate. `now`: seconds since 1970."""
    folder.mkdir(parents=True, exist_ok=True)
    ca_file = folder / "azure-ca.crt"
    azure = AzureVault(ca_file, resource, now)
    ca_file.write_text(azure.ca)
    names = ("127.0.0.1", "localhost", "login.microsoftonline.com", "*.vault.azure.net")
    tls = authority("azure").server(folder, *names)
    async with AsyncExitStack() as stack:
        tokens = await stack.enter_async_context(listening(azure.entra.app(), tls))
        vault = await stack.enter_async_context(listening(azure.app(), tls))
        azure.entra.authority, azure.url = f"https://127.0.0.1:{tokens}", f"https://127.0.0.1:{vault}"
        yield azure
