"""A double of Google Secret Manager (REST, v1) and of where its tokens come from (google_tokens.py), written from the
public protocol (cloud.google.com: "Secret Manager API", "AIP-193 Errors").

    async with gcp_secrets(tmp_path) as gcp:
        gcp.url                                   # "https://127.0.0.1:34568", for https://secretmanager.googleapis.com
        gcp.project_id
        gcp.tokens.service_account()              # JSON text of a key, whose token_uri is the double's
        gcp.tokens.metadata_host                  # for GCE_METADATA_HOST: the workload identity of a pod
        gcp.tokens.external_account(file)         # JSON text of workload identity federation; see workload_token()
        gcp.put("openai", "sk-1")                 # a new version; text or bytes; returns its number
        gcp.set_state("openai", 1, "DISABLED")    # ENABLED, DISABLED, DESTROYED
        gcp.alias("openai", "prod", 1); gcp.delete("openai")
        gcp.permissions.discard("access")         # 403
        gcp.corrupt = True                        # dataCrc32c is of something else from now on
        gcp.tokens.revoke()                       # tokens given until now are refused with 401
        gcp.faults.add(429, retry_after="2")      # see doubles.py; gcp.tokens.faults, .metadata_faults likewise
        gcp.seen, gcp.tokens.seen, gcp.tokens.metadata_seen

The APIs are https with a certificate for 127.0.0.1, localhost and *.googleapis.com, signed by `gcp.ca` (PEM;
`gcp.ca_file`: as a file): `ssl.create_default_context(cadata=gcp.ca)`, or SSL_CERT_FILE=<ca_file> for a whole process,
and REQUESTS_CA_BUNDLE=<ca_file> for google-auth's requests. The metadata server is http, as in life.

Checked: what google_tokens.py says; and here the bearer (known, in time, for cloud-platform), names and permissions.
Not there: locations, deletion with ETags, replication, and whatever writes.
"""

import base64
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from aiohttp import web

from .authority import authority
from .doubles import Fault, Faults, Seen, later, listening, watched
from .google_tokens import CLOUD_PLATFORM, GoogleTokens, status_error

State = Literal["ENABLED", "DISABLED", "DESTROYED"]
_REASONS: Final = {
    429: (
        "RESOURCE_EXHAUSTED",
        "Quota exceeded for quota metric 'Access requests' and limit 'Access requests per minute'.",
    ),
    500: ("INTERNAL", "Internal error encountered."),
    503: ("UNAVAILABLE", "The service is currently unavailable."),
    504: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
}
_CASTAGNOLI: Final = 0x82F63B78


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a secret."""

    data: bytes
    state: State = "ENABLED"


class GcpSecrets:
    """The secrets of one project; see the module."""

    def __init__(self, ca_file: Path, now: Callable[[], float]) -> None:
        self.tokens = GoogleTokens("aisix-tests", now)
        self.project_id = self.tokens.project_id
        self.url = ""
        """Its origin, once it listens."""
        self.ca_file = ca_file
        self.ca = authority("google").pem
        self.permissions = {"access", "list", "get"}
        self.corrupt = False
        self.faults = Faults()
        self.seen: list[Seen] = []
        self._secrets: dict[str, list[Version]] = {}
        self._aliases: dict[tuple[str, str], int] = {}

    def put(self, name: str, data: str | bytes) -> int:
        """Add a version; returns its number, from 1."""
        assert re.fullmatch("[A-Za-z0-9_-]{1,255}", name), "Secret Manager has no such names"
        content = data.encode() if isinstance(data, str) else data
        self._secrets.setdefault(name, []).append(Version(content))
        return len(self._secrets[name])

    def set_state(self, name: str, number: int, state: State) -> None:
        """Disable or destroy a version, or enable it again."""
        self._secrets[name][number - 1] = replace(self._secrets[name][number - 1], state=state)

    def alias(self, name: str, alias: str, number: int) -> None:
        """Let a version be known by a word, too."""
        self._aliases[name, alias] = number

    def delete(self, name: str) -> None:
        """The secret is gone, with all its versions."""
        del self._secrets[name]

    def app(self) -> web.Application:
        """The API, as far as secrets are read."""
        app = web.Application(middlewares=[watched(self.faults, self.seen, self._fault)])
        secrets = "/v1/projects/{project}/secrets"
        app.router.add_get(secrets, self._list)
        app.router.add_get(f"{secrets}/{{name}}", self._get)
        app.router.add_get(f"{secrets}/{{name}}/versions/{{version}}:access", self._access)
        return app

    async def _access(self, request: web.Request) -> web.Response:
        name, version = request.match_info["name"], request.match_info["version"]
        if refused := self._refused(request, "access", "versions.access"):
            return refused
        versions = self._secrets.get(name, [])
        at = f"{self._parent}/secrets/{name}"
        if not versions:
            return status_error(404, "NOT_FOUND", f"Secret [{at}] not found or has no versions.")
        number = len(versions) if version == "latest" else self._aliases.get((name, version), 0)
        if version.isdecimal():
            number = int(version)
        elif number == 0 and not re.fullmatch("[A-Za-z][A-Za-z0-9_-]{0,62}", version):
            wrong = "The provided Secret Version ID does not match the expected format [latest] or a positive integer."
            return status_error(400, "INVALID_ARGUMENT", wrong)
        if not 1 <= number <= len(versions):
            return status_error(404, "NOT_FOUND", f"Secret Version [{at}/versions/{version}] not found.")
        found = versions[number - 1]
        if found.state != "ENABLED":
            off = f"Secret Version [{at}/versions/{number}] is in {found.state} state."
            return status_error(400, "FAILED_PRECONDITION", off)
        checked = crc32c(found.data) ^ (1 if self.corrupt else 0)
        payload = {"data": base64.b64encode(found.data).decode("ascii"), "dataCrc32c": str(checked)}
        return web.json_response({"name": f"{at}/versions/{number}", "payload": payload})

    async def _get(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if refused := self._refused(request, "get", "secrets.get"):
            return refused
        if name not in self._secrets:
            return status_error(404, "NOT_FOUND", f"Secret [{self._parent}/secrets/{name}] not found.")
        return web.json_response(self._described(name))

    async def _list(self, request: web.Request) -> web.Response:
        if refused := self._refused(request, "list", "secrets.list"):
            return refused
        size, start = int(request.query.get("pageSize", "0")) or 100, int(request.query.get("pageToken", "0"))
        listed = [self._described(name) for name in sorted(self._secrets)]
        more = {"nextPageToken": str(start + size)} if start + size < len(listed) else {}
        return web.json_response({"secrets": listed[start : start + size], "totalSize": len(listed), **more})

    @property
    def _parent(self) -> str:
        return f"projects/{self.tokens.project_number}"

    def _described(self, name: str) -> dict[str, Any]:
        aliases = {alias: str(number) for (owner, alias), number in self._aliases.items() if owner == name}
        document = {"name": f"{self._parent}/secrets/{name}", "replication": {"automatic": {}}}
        return {**document, **({"versionAliases": aliases} if aliases else {})}

    def _refused(self, request: web.Request, operation: str, permission: str) -> web.Response | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return _unauthenticated("Request is missing required authentication credential.", "CREDENTIALS_MISSING")
        granted = self.tokens.granted(token, "https://secretmanager.googleapis.com/")
        if granted is None:
            return _unauthenticated("Request had invalid authentication credentials.", "ACCESS_TOKEN_TYPE_UNSUPPORTED")
        if CLOUD_PLATFORM not in granted.scopes:
            narrow = "Request had insufficient authentication scopes."
            return status_error(403, "PERMISSION_DENIED", narrow, reason="ACCESS_TOKEN_SCOPE_INSUFFICIENT")
        known = request.match_info["project"] in (self.project_id, str(self.tokens.project_number))
        if operation not in self.permissions or not known:
            resource = request.path.removeprefix("/v1/").removesuffix(":access")
            denied = f"Permission 'secretmanager.{permission}' denied for resource '{resource}' (or it may not exist)."
            return status_error(403, "PERMISSION_DENIED", denied, reason="IAM_PERMISSION_DENIED")
        return None

    def _fault(self, fault: Fault) -> web.Response:
        name, said = _REASONS.get(fault.status, ("UNKNOWN", "The request failed."))
        return later(status_error(fault.status, name, said), fault)


def crc32c(data: bytes) -> int:
    """The CRC-32C (Castagnoli) of the data, as in RFC 3720 B.4."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (_CASTAGNOLI if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def _unauthenticated(said: str, reason: str) -> web.Response:
    expected = "Expected OAuth 2 access token, login cookie or other valid authentication credential."
    answer = status_error(401, "UNAUTHENTICATED", f"{said} {expected}", reason=reason)
    answer.headers["WWW-Authenticate"] = 'Bearer realm="https://accounts.google.com/"'
    return answer


@asynccontextmanager
async def gcp_secrets(folder: Path, *, now: Callable[[], float] = time.time) -> AsyncIterator[GcpSecrets]:
    """All of it while the context lasts; `folder` gets the certificate. `now`: seconds since 1970."""
    folder.mkdir(parents=True, exist_ok=True)
    ca_file = folder / "google-ca.crt"
    gcp = GcpSecrets(ca_file, now)
    ca_file.write_text(gcp.ca)
    tls = authority("google").server(folder, "127.0.0.1", "localhost", "*.googleapis.com")
    async with AsyncExitStack() as stack:
        tokens = await stack.enter_async_context(listening(gcp.tokens.app(), tls))
        metadata = await stack.enter_async_context(listening(gcp.tokens.metadata_app()))
        secrets = await stack.enter_async_context(listening(gcp.app(), tls))
        gcp.tokens.origin, gcp.url = f"https://127.0.0.1:{tokens}", f"https://127.0.0.1:{secrets}"
        gcp.tokens.metadata_host = f"127.0.0.1:{metadata}"
        yield gcp
