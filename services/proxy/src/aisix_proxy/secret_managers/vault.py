"""HashiCorp Vault and OpenBao: secrets of the key-value engine, version 1 or 2 (customer-documents 6.4).

`$secret://vault/<provider>/<path>/<key>`: the last segment is the key in the secret, the others are its path below the
provider's mount and prefix.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import urlsplit

import msgspec

from aisix_common.resources.secret_providers import Vault, VaultKubernetes, VaultToken
from aisix_common.secret import Secret

from .base import Away, Context, Fetched, NoSuchSecret, Refused, Unresolved, Unusable
from .rest import Rest, within
from .vault_api import WHO, Answer, VaultApi
from .vault_login import tokens_for

_LOOKUP: Final = "auth/token/lookup-self"


class _Versioned(msgspec.Struct):
    data: dict[str, msgspec.Raw] | None = None
    """None: the version asked for was deleted or destroyed."""


class _V2(msgspec.Struct):
    data: _Versioned | None = None


class _V1(msgspec.Struct):
    data: dict[str, msgspec.Raw] | None = None
    lease_duration: float = 0


class VaultClient:
    """A `ManagerClient`."""

    def __init__(self, provider: Vault, context: Context) -> None:
        """Raises Unusable for a login with the pod's token at a host that it may not be sent to."""
        if isinstance(provider.auth, VaultKubernetes):
            _permit(provider.uri, context.service_account_hosts)
        self._api = VaultApi(provider.uri, provider.namespace, Rest(WHO, context, provider.ca_cert))
        self._tokens = tokens_for(provider.auth, self._api, context)
        self._logs_in = not isinstance(provider.auth, VaultToken)
        self._timeout = context.timeout
        self._versioned = provider.kv_version == "v2"
        self._mount = provider.mount
        between = [provider.mount]
        if self._versioned:
            between.append("data")
        if provider.prefix is not None:
            between.append(provider.prefix)
        self._below = "/".join(between)

    async def fetch(self, path: Sequence[str]) -> Fetched:
        if len(path) < 2:
            raise Unusable("names no key: write $secret://vault/<provider>/<path>/<key>")
        *where, key = path
        at = "/".join([self._below, *where])
        async with within(WHO, self._timeout):
            answer = await self._asked(at)
        if not answer.good:
            raise self._why_not(answer, at)
        return self._value(answer, at, key)

    async def probe(self) -> None:
        async with within(WHO, self._timeout):
            token = await self._tokens.current()
            answer = await self._api.call("GET", _LOOKUP, token=token)
            if answer.good:
                return
            if answer.status == 404:
                raise Unusable(f"{WHO} has no such namespace, or the token is none of its: correct namespace")
            # A login that was just now taken is proof enough: not every policy lets a token look itself up.
            if answer.status == 403 and self._logs_in:
                await self._tokens.instead_of(token)
                return
        raise Refused(
            f"{WHO} refuses the token ({answer.status}): it has expired, or is not of this {WHO} or namespace, "
            "or no policy lets it look itself up (`default` does)"
        )

    async def aclose(self) -> None:
        await self._api.aclose()

    async def _asked(self, at: str) -> Answer:
        """The secret at a path, asked for with another token where the first was refused."""
        token = await self._tokens.current()
        answer = await self._api.call("GET", at, token=token)
        if answer.status == 403 and (other := await self._tokens.instead_of(token)) is not None:
            answer = await self._api.call("GET", at, token=other)
        return answer

    def _why_not(self, answer: Answer, at: str) -> Unresolved:
        said = answer.said
        if answer.status == 403:
            whose = "the login's" if self._logs_in else "the token (it may have expired), or its"
            return Refused(f"{WHO} refuses {whose} policies: they must let it read {at}")
        if answer.status != 404:
            if "upgrading" in said:
                return Away(f"the engine at {self._mount} is being upgraded to versions")
            return Unusable(f"{WHO} does not take a request for {at} ({answer.status}): is it a key-value engine's?")
        if "no handler" in said:
            return NoSuchSecret(f"{WHO} has no engine at {self._mount}: correct mount, or mount one there")
        if "namespace" in said:
            return NoSuchSecret(f"{WHO} has no such namespace: correct namespace")
        if "versioned" in said:
            return NoSuchSecret(f"the engine at {self._mount} keeps versions: set kv_version to v2")
        if self._versioned and answer.read(_V2).data is not None:
            return NoSuchSecret(f"the newest version of {at} is deleted: undelete it, or write another")
        return NoSuchSecret(f"{WHO} has nothing at {at}: check path, prefix and kv_version")

    def _value(self, answer: Answer, at: str, key: str) -> Fetched:
        lifetime = 0.0
        if self._versioned:
            inner = answer.read(_V2).data
            members = inner.data if inner is not None else None
        else:
            document = answer.read(_V1)
            members, lifetime = document.data, document.lease_duration
        raw = bytes((members or {}).get(key, b"null"))
        if raw == b"null":
            raise NoSuchSecret(f"what {WHO} has at {at} holds no value under the reference's last segment, its key")
        text = msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else raw.decode()
        if not text:
            raise NoSuchSecret(f"what {WHO} has at {at} is empty under the reference's last segment, its key")
        return Fetched(Secret(text), lifetime if lifetime > 0 else None)


def _permit(uri: str, hosts: Sequence[str]) -> None:
    """Whoever writes rows chooses the address: only the operator's list says where the pod's token may go."""
    host = (urlsplit(uri).hostname or "").rstrip(".")
    if not any(fnmatchcase(host, pattern.lower()) for pattern in hosts):
        raise Unusable(
            f"logs in with the pod's service account token, which may not be sent to {host}: "
            f"secrets.service_account_hosts names {', '.join(hosts) or 'none'}"
        )
