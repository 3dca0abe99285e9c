"""Vault's HTTP API as far as all of its paths are alike: headers, and what each status means. OpenBao speaks the same.

What a 400, 403, 404 or 405 is depends on what was asked, so these come back; everything else that is no success is
Away. Of what Vault says only known words are looked for; its texts are never passed on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from .base import Away
from .rest import Reply, Rest

Document = TypeVar("Document")

WHO: Final = "Vault"
_OURS_TO_JUDGE: Final = frozenset({400, 403, 404, 405})
_AWAY: Final[Mapping[int, str]] = {
    412: "has not caught up with its active node yet (412)",
    429: "throttles us (429)",
    472: "is a disaster-recovery secondary (472): give the address of the primary",
    473: "is a standby that does not answer (473): give the address of the active node",
}


class _Told(msgspec.Struct):
    """What is in every answer that is no success: errors, or the members of a success without what was asked for."""

    errors: list[str] | None = None
    warnings: list[str] | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A success, or a refusal that the caller understands."""

    status: int
    said: str = field(repr=False)
    """Vault's errors and warnings in lower case, to look for known words in."""
    _reply: Reply = field(repr=False)

    @property
    def good(self) -> bool:
        """Whether it did what was asked."""
        return self.status < 300

    def read(self, document: type[Document]) -> Document:
        """The body. Raises Away if it is not of this type."""
        return self._reply.read(document)


class VaultApi:
    """Calls to one Vault, in one namespace."""

    def __init__(self, uri: str, namespace: str | None, rest: Rest) -> None:
        self._base = f"{uri.rstrip('/')}/v1/"
        self._rest = rest
        self._headers = {"X-Vault-Request": "true", "Accept": "application/json"}
        if namespace is not None:
            self._headers["X-Vault-Namespace"] = namespace

    async def call(
        self, method: str, path: str, *, token: str | None = None, document: Mapping[str, str] | None = None
    ) -> Answer:
        """Ask `path` (behind `/v1/`, in clear). Raises Away and Unusable."""
        headers = self._headers if token is None else {**self._headers, "X-Vault-Token": token}
        url = self._base + "/".join(quote(segment, safe="") for segment in path.split("/"))
        reply = await self._rest.ask(method, url, headers, document)
        if 200 <= reply.status < 300:
            return Answer(reply.status, "", reply)
        if reply.status in _OURS_TO_JUDGE:
            return Answer(reply.status, _said(reply), reply)
        raise Away(f"{WHO} {_trouble(reply)}")

    async def aclose(self) -> None:
        """Give back what is held."""
        await self._rest.aclose()


def _said(reply: Reply) -> str:
    told = reply.read(_Told)
    if told.errors is None and told.request_id is None:
        raise Away(f"what answers ({reply.status}) is not {WHO}'s API: check the address, and what stands before it")
    return " ".join([*(told.errors or ()), *(told.warnings or ())]).lower()


def _trouble(reply: Reply) -> str:
    status = reply.status
    if 300 <= status < 400:
        return (
            f"answers with a redirect ({status}), which is not followed: give the address of the active node as uri, "
            "or enable request forwarding on the standby nodes"
        )
    if status == 503 and b"sealed" in reply.content:
        return "is sealed: unseal it"
    return _AWAY.get(status, f"fails ({status})")
