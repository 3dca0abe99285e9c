"""The two calls by which a certificate is got, made: with a token, and with the certificate before. What is sent and
what an answer means is `enrollment`'s.

The token goes to nobody but a server that proved itself by the given authority: with a pin, the first connection looks
at the chain that is presented, sends nothing, and ends; a second one trusts the pinned authority alone.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias
from urllib.parse import urlsplit

from aisix_common.clock import Clock
from aisix_common.errors import ConfigurationError, Problem
from aisix_common.secret import Secret
from aisix_common.settings.control import Managed

from ..cloud.link import CloudUnavailable, Session
from ..cloud.session import Answer, exchange, http_client
from .bundle import Bundle
from .bundle_store import Stored
from .enrollment import MOST_BYTES, Call, NotEnrolled, Pending, enrolled, enrollment, rotated, rotation
from .identity import BundleRefused, Identity
from .pin import pinned_authority, read_pin
from .tls import read_ca, trusting_nobody, trusting_only

CALL_SECONDS: Final = 15.0
"""Of an enrolment, both connections together."""


class Rotates(Protocol):
    """A session that carries a rotation."""

    async def rotate(self, call: Call) -> Answer: ...


class KeptSession(Session, Rotates, Protocol):
    """What the keeper needs of a session: `cloud.session.CloudSession`."""

    @property
    def refused(self) -> str | None:
        """Why the Cloud does not take its certificate, as far as is known."""
        ...


OpenSession: TypeAlias = Callable[[Managed, Bundle, Identity], KeptSession]
"""`cloud.session.open_session`. Raises ConfigurationError."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom the call with the token trusts: authorities, or the pin of one."""

    ca: str | None
    """PEM of `managed.bootstrap.ca_file`."""
    pin: bytes | None
    """As `pin.read_pin` gives it."""


def read_trust(managed: Managed) -> Trust:
    """What `managed.bootstrap` says of it. Blocking. Raises ConfigurationError."""
    bootstrap = managed.bootstrap
    if bootstrap.ca_pin and bootstrap.ca_pin.strip():
        return Trust(None, read_pin(bootstrap.ca_pin))
    if bootstrap.ca_file and bootstrap.ca_file.strip():
        return Trust(read_ca(bootstrap.ca_file, "managed.bootstrap.ca_file"), None)
    raise ConfigurationError(
        [Problem("managed.bootstrap", "ca_pin or ca_file is needed: it says which server may be sent the token")]
    )


async def enroll(url: str, token: Secret, pending: Pending, trust: Trust, clock: Clock) -> Bundle:
    """The bundle that a one-time token gives; `url` is the Cloud's. `pending` is kept already.

    Raises NotEnrolled, ConfigurationError (URL, token), and CloudUnavailable where there was no answer, or one that
    says when to come again. None of them holds the token.
    """
    call = enrollment(url, token, pending)
    try:
        async with asyncio.timeout(CALL_SECONDS):
            context = await _context(call.url, trust)
            async with http_client(context) as http:
                answer = await exchange(
                    http, "POST", call.url, call.body.reveal().encode(), seconds=CALL_SECONDS, most=MOST_BYTES
                )
    except TimeoutError:
        raise CloudUnavailable(f"the Cloud did not answer within {CALL_SECONDS:g} s") from None
    try:
        return enrolled(answer.status, answer.body, pending, clock.now(), trust.pin)
    except NotEnrolled as refused:
        raise _later(refused, answer) from None


async def rotate(session: Rotates, base_url: str, pending: Pending, before: Stored, clock: Clock) -> Bundle:
    """The bundle that follows `before`, asked for over a session with its certificate. `pending` is kept already.

    Raises NotEnrolled and CloudUnavailable.
    """
    answer = await session.rotate(rotation(base_url, pending))
    try:
        return rotated(answer.status, answer.body, pending, clock.now(), before.bundle, before.identity)
    except NotEnrolled as refused:
        raise _later(refused, answer) from None


def _later(refused: NotEnrolled, answer: Answer) -> NotEnrolled | CloudUnavailable:
    if refused.again and answer.retry_after is not None:
        return CloudUnavailable(str(refused), retry_after=answer.retry_after)
    return refused


async def _context(url: str, trust: Trust) -> ssl.SSLContext:
    """Raises CloudUnavailable; NotEnrolled where the pinned authority is not presented."""
    if trust.pin is None:
        return trusting_only(trust.ca or "", "managed.bootstrap.ca_file")
    presented = await _presented(url)
    try:
        authority = pinned_authority(presented, trust.pin)
    except BundleRefused as refused:
        raise NotEnrolled(str(refused), again=True) from None  # nothing was sent: looking again harms nobody
    return trusting_only(authority, "managed.bootstrap.ca_pin")


async def _presented(url: str) -> list[bytes]:
    """The certificates (DER) that the server at `url` presents. Nothing is sent."""
    parts = urlsplit(url)
    try:
        _, writer = await asyncio.open_connection(
            parts.hostname, 443 if parts.port is None else parts.port, ssl=trusting_nobody()
        )
    except OSError as error:  # of TLS, too
        reason = error.strerror if not isinstance(error, ssl.SSLError) else "TLS failed"
        raise CloudUnavailable(f"the Cloud at managed.bootstrap.url was not reached: {reason}") from None
    try:
        return _chain(writer.get_extra_info("ssl_object"))
    finally:
        writer.transport.abort()


def _chain(connection: ssl.SSLObject) -> list[bytes]:
    """As it was presented. Python 3.13 has a method for it; before, it is to be had from the object within."""
    if hasattr(connection, "get_unverified_chain"):
        return list(connection.get_unverified_chain())
    inner = connection._sslobj  # type: ignore[attr-defined]  # private, see above
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in inner.get_unverified_chain() or ()]
