"""AWS Secrets Manager (`$secret://aws/<provider>/<name>[/<key>]`), over aiobotocore, which is an extra.

Names of secrets hold slashes, so a path can be read in several ways: the longest name comes first, and only where AWS
knows no such secret the next one is asked for, whose key the rest of the path is (customer-documents 6.4).
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from aisix_common.resources.secret_providers import Aws

from .base import Away, Context, Fetched, NoSuchSecret, Refused, Unresolved, Unusable
from .keyed import part
from .library import Once, loaded
from .rest import within

if TYPE_CHECKING:
    from .aws_calls import Calls

WHO: Final = "AWS Secrets Manager"
PROBED: Final = "aisix-probe/no-such-secret"
_MOST_READINGS: Final = 1024
_READING_LASTS: Final = timedelta(hours=1)
_NAME: Final = re.compile(r"[A-Za-z0-9/_+=.@!:-]{1,2048}")
"""Names and ARNs. What does not match cannot be a secret, so AWS is not asked, which would call the request invalid."""
_CODE: Final = re.compile(r"[A-Za-z.]{1,64}")

_KINDS: Final[Mapping[str, tuple[type[Unresolved], str]]] = {
    "ResourceNotFoundException": (NoSuchSecret, "there is no such secret, or no current version of it"),
    "InvalidRequestException": (NoSuchSecret, "the secret is marked for deletion, or has no value yet"),
    "AccessDeniedException": (Refused, "the credentials are good, but not for this secret: see their policy"),
    "DecryptionFailure": (Refused, "the credentials may not use the secret's KMS key"),
    "UnrecognizedClientException": (Refused, "the access key is unknown, or the session token is wrong"),
    "InvalidClientTokenId": (Refused, "the access key is unknown"),
    "ExpiredTokenException": (Refused, "the session token has expired"),
    "ExpiredToken": (Refused, "the session token has expired"),
    "InvalidSignatureException": (Refused, "the secret access key is wrong, or the clocks differ"),
    "SignatureDoesNotMatch": (Refused, "the secret access key is wrong, or the clocks differ"),
    "InvalidParameterException": (Unusable, "the name cannot be that of a secret"),
    "ValidationException": (Unusable, "the name cannot be that of a secret"),
    "ThrottlingException": (Away, "it throttles us"),
    "Throttling": (Away, "it throttles us"),
    "TooManyRequestsException": (Away, "it throttles us"),
    "RequestLimitExceeded": (Away, "it throttles us"),
}


def readings(path: Sequence[str]) -> Sequence[tuple[str, str | None]]:
    """(name, key) of every way to read a path, the longest name first."""
    ways = [("/".join(path[:end]), "/".join(path[end:]) or None) for end in range(len(path), 0, -1)]
    return [(name, key) for name, key in ways if _NAME.fullmatch(name) is not None]


def refusal(code: str, status: int) -> Unresolved:
    """What an error that AWS answered with means: `code` its name for it, `status` the HTTP status."""
    known = _KINDS.get(code)
    shown = code if _CODE.fullmatch(code) is not None else f"HTTP status {status}"
    if known is not None:
        kind, reason = known
        return kind(f"{WHO}: {reason} ({shown})")
    if status >= 500 or status == 429:
        return Away(f"{WHO} fails ({shown})")
    return Refused(f"{WHO} refuses the request ({shown})")


class AwsClient:
    """The client of one provider."""

    def __init__(self, provider: Aws, context: Context) -> None:
        self._provider = provider
        self._context = context
        self._calls: Once[Calls] = Once(self._open)
        self._known: dict[tuple[str, ...], tuple[tuple[str, str | None], datetime]] = {}
        """The reading that led to a secret, and until when it is tried first: not for good, since proxies that started
        at different times must come to the same secret when a longer name appears."""

    async def fetch(self, path: Sequence[str]) -> Fetched:
        """As `ManagerClient.fetch`."""
        async with within(WHO, self._context.timeout):
            calls = await self._calls.get()
            known, now = tuple(path), self._context.clock.now()
            reading, until = self._known.pop(known, (None, now))
            if reading is not None and now < until:
                try:
                    fetched = await self._read(calls, *reading)
                except NoSuchSecret:
                    fetched = None  # it went or has changed: as if nothing were known
                if fetched is not None:
                    self._known[known] = (reading, until)
                    return fetched
            for reading in readings(path):
                fetched = await self._read(calls, *reading)
                if fetched is not None:
                    self._remember(known, reading, now + _READING_LASTS)
                    return fetched
        raise NoSuchSecret(f"{WHO} has no secret of this name, nor of the names that the path begins with")

    async def probe(self) -> None:
        """As `ManagerClient.probe`: AWS says that there is no secret of a name that none has."""
        async with within(WHO, self._context.timeout):
            calls = await self._calls.get()
            try:
                await calls.text(PROBED)
            except Refused as refused:
                raise Refused(
                    f"{refused}; a policy that names single secrets refuses {PROBED}, the probe, too"
                ) from None

    async def aclose(self) -> None:
        """As `ManagerClient.aclose`."""
        calls = await self._calls.take()
        if calls is not None:
            await calls.aclose()

    async def _read(self, calls: "Calls", name: str, key: str | None) -> Fetched | None:
        """What a reading leads to; None where there is no secret of that name."""
        text = await calls.text(name)
        return None if text is None else Fetched(part(text, key))

    def _remember(self, path: tuple[str, ...], reading: tuple[str, str | None], until: datetime) -> None:
        while len(self._known) >= _MOST_READINGS:
            del self._known[next(iter(self._known))]
        self._known[path] = (reading, until)

    async def _open(self) -> "Calls":
        make = await loaded(WHO, "aws", lambda: _prepare(self._provider))
        return await make(self._context)


def _prepare(provider: Aws) -> "Callable[[Context], Awaitable[Calls]]":
    from .aws_calls import prepare

    return prepare(provider)
