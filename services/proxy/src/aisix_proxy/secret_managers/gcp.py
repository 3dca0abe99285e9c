"""Google Secret Manager (`$secret://gcp/<provider>/<name>[@<version>][/<json key>]`): one call of its REST API, with
tokens from google-auth, which is an extra.

The pod's own identity - a workload identity, or the machine's - opens whatever the pod may open, and its token is all
that whoever gets it needs. So it goes to Google's own hosts alone, whatever stands in a row. A service account is
brought by the row itself, and may go anywhere.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from aisix_common.resources.secret_providers import Gcp
from aisix_common.secret import Secret

from .base import Away, Context, Fetched, NoSuchSecret, Refused, Unresolved, Unusable
from .crc32c import crc32c
from .keyed import decoded, part, split
from .library import Once, loaded
from .rest import Reply, Rest, within

if TYPE_CHECKING:
    from .gcp_tokens import Tokens

WHO: Final = "Google Secret Manager"
PROBED: Final = "aisix-probe-no-such-secret"
_PUBLIC: Final = "https://secretmanager.googleapis.com"
_NAME: Final = re.compile(r"([A-Za-z0-9_-]{1,255})(?:@([A-Za-z0-9_-]{1,63}))?")
_REASON: Final = re.compile(r"[A-Z_]{1,64}")
_MOST_BYTES: Final = 1 << 18


class _Detail(msgspec.Struct):
    reason: str = ""


class _Error(msgspec.Struct):
    status: str = ""
    details: list[_Detail] = []


class _Failure(msgspec.Struct):
    error: _Error | None = None


class _Payload(msgspec.Struct):
    data: str = ""
    checksum: str | int | None = msgspec.field(default=None, name="dataCrc32c")


class _Version(msgspec.Struct):
    name: str
    payload: _Payload = msgspec.field(default_factory=_Payload)


def resource(segment: str) -> str | None:
    """The part of the API's path behind the project for a reference's first segment; None for what can be none."""
    found = _NAME.fullmatch(segment)
    return None if found is None else f"secrets/{found[1]}/versions/{found[2] or 'latest'}"


def content(reply: Reply) -> str:
    """The text of a version that the API gave. Raises NoSuchSecret, and Away for what is not what it says."""
    payload = reply.read(_Version).payload
    try:
        data = base64.b64decode(payload.data.encode(), validate=True)
    except (binascii.Error, ValueError):
        raise Away(f"{WHO} answers with something else than base64") from None
    if payload.checksum is not None and str(payload.checksum) != str(crc32c(data)):
        raise Away(f"{WHO}: the secret was damaged on the way: it does not fit its checksum")
    return decoded(data)


def refusal(reply: Reply) -> Unresolved:
    """What an answer that is no secret means."""
    try:
        error = msgspec.json.decode(reply.content, type=_Failure).error or _Error()
    except (msgspec.MsgspecError, ValueError, RecursionError):
        error = _Error()
    names = [*(detail.reason for detail in error.details), error.status]
    shown = next((name for name in names if _REASON.fullmatch(name)), f"HTTP status {reply.status}")
    if reply.status == 404 and error.status:
        return NoSuchSecret(f"{WHO} has no secret of this name, or no such version of it")
    if reply.status == 400 and error.status == "FAILED_PRECONDITION":
        return NoSuchSecret(f"{WHO}: the version is disabled or destroyed")
    if reply.status == 401:
        return Refused(f"{WHO} does not take the identity's token ({shown})")
    if reply.status == 403:
        return Refused(
            f"{WHO}: the identity may not read this secret, or there is none, or the API is off ({shown}): "
            "it needs roles/secretmanager.secretAccessor"
        )
    if reply.status == 429:
        return Away(f"{WHO} throttles us")
    if reply.status >= 500:
        return Away(f"{WHO} fails ({shown})")
    if not error.status:
        return Away(f"what answers is not the API of {WHO}: check endpoint_url, and what stands before it ({shown})")
    return Refused(f"{WHO} refuses the request ({shown})")


def service_account(text: Secret) -> dict[str, Any]:
    """The key of a service account, as google-auth takes it. Nothing else that such files may hold: the other kinds
    name files, commands and URLs of their own. Raises Unusable, without a word of it."""
    try:
        document = msgspec.json.decode(text.reveal())
    except (msgspec.MsgspecError, ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("type") != "service_account":
        raise Unusable('service_account must hold the JSON key of a service account ("type": "service_account")')
    wanted = ("client_email", "private_key", "token_uri")
    missing = [name for name in wanted if not isinstance(document.get(name), str)]
    if missing:
        raise Unusable(f"service_account holds a key without {', '.join(missing)}")
    if not _may_have_tokens(document["token_uri"]):
        raise Unusable("service_account holds a token_uri that is neither https:// nor on this machine")
    return {name: document[name] for name in (*wanted, "private_key_id") if name in document}


class GcpClient:
    """The client of one provider."""

    def __init__(self, provider: Gcp, context: Context) -> None:
        self._account = None if provider.service_account is None else service_account(provider.service_account)
        endpoint = (provider.endpoint_url or _PUBLIC).rstrip("/")
        if self._account is None and not _is_googles(endpoint):
            raise Unusable(
                "endpoint_url needs a service_account: the pod's own identity goes to https://*.googleapis.com alone"
            )
        self._base = f"{endpoint}/v1/projects/{provider.project_id}"
        self._context = context
        self._rest = Rest(WHO, context, most_bytes=_MOST_BYTES)
        self._tokens: Once[Tokens] = Once(self._open)

    async def fetch(self, path: Sequence[str]) -> Fetched:
        """As `ManagerClient.fetch`."""
        name, key = split(path)
        async with within(WHO, self._context.timeout):
            text = await self._text(name)
        return Fetched(part(text, key))

    async def probe(self) -> None:
        """As `ManagerClient.probe`: Google says that there is no secret of a name that none has."""
        async with within(WHO, self._context.timeout):
            try:
                await self._text(PROBED)
            except NoSuchSecret:
                return

    async def aclose(self) -> None:
        """As `ManagerClient.aclose`."""
        tokens = await self._tokens.take()
        if tokens is not None:
            await tokens.aclose()
        await self._rest.aclose()

    async def _text(self, name: str) -> str:
        at = resource(name)
        if at is None:
            raise NoSuchSecret(f"{WHO} has no such secret: names there hold letters, digits, dashes and underscores")
        tokens = await self._tokens.get()
        token = await tokens.get()
        reply = await self._access(at, token)
        if reply.status == 401:
            tokens.forget(token)
            reply = await self._access(at, await tokens.get())
        if reply.status != 200:
            raise refusal(reply)
        return content(reply)

    async def _access(self, at: str, token: str) -> Reply:
        return await self._rest.ask("GET", f"{self._base}/{at}:access", {"Authorization": f"Bearer {token}"})

    async def _open(self) -> "Tokens":
        tokens = await loaded(WHO, "gcp", _load)
        return tokens(self._account, self._context)


def _load() -> "type[Tokens]":
    from .gcp_tokens import Tokens

    return Tokens


def _is_googles(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" and (parts.hostname or "").lower().endswith(".googleapis.com")


def _may_have_tokens(url: str) -> bool:
    try:
        parts = urlsplit(url)
        if parts.scheme == "https":
            return bool(parts.hostname)
        host = parts.hostname or ""
        return parts.scheme == "http" and (host == "localhost" or ip_address(host).is_loopback)
    except ValueError:
        return False
