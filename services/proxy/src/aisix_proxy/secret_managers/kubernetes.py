"""Secrets of a Kubernetes cluster: `$secret://kubernetes/<provider>/<namespace>/<name>/<key>`.

Two lists must allow a Secret before the API server is asked for it: the provider's, which whoever writes rows sets, and
`secrets.kubernetes_allow`, which the operator of this proxy sets.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from aisix_common.resources.secret_providers import Kubernetes
from aisix_common.secret import Secret

from .base import Away, Context, Fetched, NoSuchSecret, Refused, Unresolved, Unusable
from .rest import Reply, Rest, within
from .service_account import mounted

WHO: Final = "the Kubernetes API server"
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_MOST_BYTES: Final = 4 << 20
"""A Secret holds 1 MiB at most: base64 and what the server notes beside it make it larger."""


class _KubernetesSecret(msgspec.Struct):
    kind: str
    data: dict[str, str] | None = None


class _Status(msgspec.Struct):
    kind: str


class _Version(msgspec.Struct):
    gitVersion: str  # noqa: N815 - the API's spelling


class KubernetesClient:
    """A `ManagerClient`."""

    def __init__(self, provider: Kubernetes, context: Context) -> None:
        """Raises Unusable for the proxy's own cluster, where it runs in none."""
        self._context = context
        self._namespaces, self._names = provider.namespaces, provider.names
        self._base = provider.apiserver.rstrip("/") if provider.apiserver is not None else _own_cluster(context)
        self._token = provider.token.reveal() if provider.token is not None else None
        self._inside = provider.apiserver is None
        self._ca_cert = self._trusted = provider.ca_cert
        self._rest = Rest(WHO, context, provider.ca_cert, most_bytes=_MOST_BYTES)
        self._retired: Rest | None = None

    async def fetch(self, path: Sequence[str]) -> Fetched:
        if len(path) != 3:
            raise Unusable("must name a namespace, a Secret and a key: $secret://kubernetes/<provider>/<namespace>/...")
        namespace, name, key = path
        self._permit(namespace, name)
        async with within(WHO, self._context.timeout):
            reply = await self._ask(f"/api/v1/namespaces/{namespace}/secrets/{name}")
        if reply.status != 200:
            raise _why_not(reply, f"Secret {namespace}/{name}")
        document = reply.read(_KubernetesSecret)
        if document.kind != "Secret":
            raise Away(f"what answers is not {WHO}: check apiserver, and what stands before it")
        return Fetched(_value((document.data or {}).get(key), f"Secret {namespace}/{name}"))

    async def probe(self) -> None:
        async with within(WHO, self._context.timeout):
            reply = await self._ask("/version")  # open to all, but a token that is sent must be a good one
        if reply.status != 200:
            raise _why_not(reply, "its version")
        reply.read(_Version)

    async def aclose(self) -> None:
        await self._rest.aclose()
        if self._retired is not None:
            await self._retired.aclose()

    def _permit(self, namespace: str, name: str) -> None:
        """Raises Unusable for what the lists do not allow, so that nobody learns whether it exists."""
        if _NAME.fullmatch(namespace) is None or _NAME.fullmatch(name) is None:
            raise Unusable("does not name a namespace and a Secret as Kubernetes names them")
        if not _any(self._namespaces, namespace) or not _any(self._names, name):
            raise Unusable(f"Secret {namespace}/{name} is not in the provider's namespaces and names")
        if not _any(self._context.kubernetes_allow, f"{namespace}/{name}"):
            raise Unusable(
                f"Secret {namespace}/{name} is not offered by secrets.kubernetes_allow "
                f"(it offers {', '.join(self._context.kubernetes_allow) or 'none'})"
            )

    async def _ask(self, path: str) -> Reply:
        if self._inside:
            token = await mounted(self._context, "token")
            authority = await mounted(self._context, "ca.crt")
            await self._trust(authority if self._ca_cert is None else f"{authority}\n{self._ca_cert}")
        else:
            token = self._token or ""
        headers = {"Accept": "application/json", "Authorization": f"Bearer {token}"}
        return await self._rest.ask("GET", self._base + path, headers)

    async def _trust(self, authority: str) -> None:
        """Open another session when the cluster's authority was replaced. Calls under way keep theirs until the next
        time that happens."""
        if authority == self._trusted:
            return
        last = self._retired
        self._trusted, self._retired = authority, self._rest
        self._rest = Rest(WHO, self._context, authority, most_bytes=_MOST_BYTES)
        if last is not None:
            await last.aclose()


def _own_cluster(context: Context) -> str:
    host, port = context.environ.get("KUBERNETES_SERVICE_HOST"), context.environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise Unusable("the proxy runs in no Kubernetes cluster: give the provider an apiserver and a token")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _any(patterns: Sequence[str], text: str) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _why_not(reply: Reply, what: str) -> Unresolved:
    status = reply.status
    if status in (401, 403, 404) and reply.read(_Status).kind != "Status":
        return Away(f"what answers ({status}) is not {WHO}: check apiserver, and what stands before it")
    if status == 404:
        return NoSuchSecret(f"{what} does not exist")
    if status == 401:
        return Refused(f"{WHO} refuses the token (401): it has expired, or is not of this cluster")
    if status == 403:
        return Refused(f"{WHO} does not let us read {what} (403): the service account needs `get` on it")
    if status == 429:
        return Away(f"{WHO} throttles us (429)")
    return Away(f"{WHO} answers {status}")


def _value(encoded: str | None, what: str) -> Secret:
    if encoded is None:
        raise NoSuchSecret(f"{what} has no such key in its data")
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        raise NoSuchSecret(f"{what} holds something under this key that is no text in UTF-8") from None
    if not text:
        raise NoSuchSecret(f"{what} is empty under this key")
    return Secret(text)
