"""A session with the Cloud: REST over HTTP/1.1 and the etcd API over HTTP/2, with one certificate (control-plane 6.2).

What a call carries and when it is made is the flows' business. Here: deadlines, bounds, and what an answer or a failure
means.
"""

import ssl
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote, urlsplit

import aiohttp

from aisix_common.clock import SYSTEM_CLOCK, Clock
from aisix_common.errors import ConfigurationError, Problem
from aisix_common.settings.control import Managed
from aisix_common.store.client import EtcdClient, EtcdOptions
from aisix_common.version import VERSION

from ..identity.bundle import Bundle
from ..identity.chain import date
from ..identity.enrollment import MOST_BYTES, Call
from ..identity.identity import Identity
from ..identity.tls import etcd_material, read_extra_ca, rest_context
from .link import CloudRefused, CloudUnavailable

CALL_SECONDS: Final = 10.0
"""Of one call, its connection and its wait for one included."""
ROTATE_SECONDS: Final = 15.0
MOST_BUDGET_BYTES: Final = 64 * 1024
SHOWN: Final = 200
"""Characters of an answer that a message shows."""
_CONNECTIONS: Final = 64
_HTTPS: Final = 443
_AGAIN: Final = frozenset({408, 425, 429})
_ALERTS: Final = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
"""In the name of a TLS alert: the server does not take our certificate."""
_PRINTABLE: Final = frozenset(string.printable) - frozenset("\t\n\r\x0b\x0c")
_LONGEST_RETRY: Final = 86_400


class CertificateRefused(CloudUnavailable):
    """The Cloud does not let us in with this certificate: expired, revoked, or of an authority it does not know. What
    was to be sent is as good as ever, and goes with another certificate."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever it says."""

    status: int
    body: bytes = field(repr=False)
    """MOST_BYTES of `enrollment`, and one more where there was more."""
    retry_after: int | None
    """Seconds that the Cloud asked to wait for."""


class CloudSession:
    """A `link.Session`. Made by `open_session`; belongs to the running loop."""

    def __init__(
        self, base_url: str, identity: Identity, context: ssl.SSLContext, etcd: EtcdClient, clock: Clock
    ) -> None:
        self._base = base_url
        self._identity = identity
        self._etcd = etcd
        self._clock = clock
        self._http = http_client(context)
        self._refused: str | None = None

    @property
    def identity(self) -> Identity:
        return self._identity

    @property
    def etcd(self) -> EtcdClient:
        return self._etcd

    @property
    def refused(self) -> str | None:
        """Why the Cloud does not take this session's certificate, as far as its last REST call tells; None: it does, or
        nothing is known."""
        return self._refused

    @property
    def closed(self) -> bool:
        """Whether it was closed: it carries nothing any more."""
        return self._http.closed

    async def heartbeat(self, body: bytes) -> None:
        await self._call("POST", "/dp/heartbeat", body)

    async def telemetry(self, body: bytes) -> None:
        await self._call("POST", "/dp/telemetry", body)

    async def budget(self, api_key_id: str) -> bytes:
        body = await self._call("GET", f"/dp/budget_check?api_key_id={quote(api_key_id, safe='')}")
        if len(body) > MOST_BUDGET_BYTES:
            raise CloudUnavailable(
                f"the Cloud's answer to GET /dp/budget_check has more than {MOST_BUDGET_BYTES} bytes"
            )
        return body

    async def rotate(self, call: Call) -> Answer:
        """Make the call of `enrollment.rotation`. Raises CloudUnavailable where there is no answer; what one means is
        `enrollment`'s to say."""
        answer = await self._exchange(
            "POST", call.url, call.body.reveal().encode(), seconds=ROTATE_SECONDS, most=MOST_BYTES
        )
        self._judge(answer, "POST", urlsplit(call.url).path)
        return answer

    async def aclose(self) -> None:
        await self._http.close()
        await self._etcd.aclose()

    async def _call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The body of a 2xx answer. Raises CloudError."""
        answer = await self._exchange(method, self._base + path, body, seconds=CALL_SECONDS, most=MOST_BUDGET_BYTES)
        shown = path.partition("?")[0]
        self._judge(answer, method, shown)
        if 200 <= answer.status <= 299:
            return answer.body
        message = f"the Cloud answered {answer.status} to {method} {shown}: {printable(answer.body)}"
        if answer.status in _AGAIN or answer.status >= 500:
            raise CloudUnavailable(message, retry_after=answer.retry_after)
        raise CloudRefused(message, status=answer.status)

    async def _exchange(self, method: str, url: str, body: bytes | None, *, seconds: float, most: int) -> Answer:
        try:
            return await exchange(self._http, method, url, body, seconds=seconds, most=most)
        except CertificateRefused as refused:
            self._refused = str(refused)
            raise
        except CloudUnavailable as error:
            ended = self._identity.not_after
            if self._clock.now() <= ended:
                raise
            self._refused = f"the certificate of the Cloud link has expired ({date(ended)}): get a new one ({error})"
            raise CertificateRefused(self._refused) from None

    def _judge(self, answer: Answer, method: str, path: str) -> None:
        """Note whether the certificate is taken. 403 may be about what was sent."""
        if answer.status == 401:
            said = printable(answer.body)
            self._refused = f"the Cloud answered 401 to {method} {path}, certificate not accepted: {said}"
        elif answer.status < 400:
            self._refused = None


def open_session(managed: Managed, bundle: Bundle, identity: Identity, clock: Clock = SYSTEM_CLOCK) -> CloudSession:
    """A session with this bundle; nothing is connected yet. Reads `managed.cp_ca_cert_file`. In the running loop.

    Raises ConfigurationError for an address or authority that is not usable.
    """
    base_url, host, endpoint = cloud_address(managed)
    extra_ca = read_extra_ca(managed.cp_ca_cert_file)
    context = rest_context(bundle, extra_ca)
    options = EtcdOptions(endpoints=(f"https://{endpoint}",), tls=etcd_material(bundle, host, extra_ca))
    return CloudSession(base_url, identity, context, EtcdClient(options), clock)


def cloud_address(managed: Managed) -> tuple[str, str, str]:
    """Where the Cloud is: base URL, host of the etcd API and its `host:port`. Raises ConfigurationError."""
    base_url = managed.cp_base_url
    if base_url is None or not base_url.lower().startswith("https://"):
        raise ConfigurationError([Problem("managed.cp_base_url", "must be the https URL of AISIX Cloud")])
    given = (managed.cp_etcd_endpoint or "").strip()
    setting, text = ("managed.cp_etcd_endpoint", f"//{given}") if given else ("managed.cp_base_url", base_url)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or (given and (parts.path or parts.query or parts.fragment or parts.username is not None)):
        raise ConfigurationError([Problem(setting, "must name a host, as host:port where it is an endpoint")])
    bracketed = f"[{host}]" if ":" in host else host
    return base_url, host, f"{bracketed}:{_HTTPS if port is None else port}"


def http_client(context: ssl.SSLContext) -> aiohttp.ClientSession:
    """An HTTP client towards the Cloud: no cookies, no proxy from the environment, nothing unpacked. In the loop."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context, limit=_CONNECTIONS),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,  # a small body must not become a large one
        headers={"User-Agent": f"aisix-dp/{VERSION}", "Accept-Encoding": "identity"},
    )


async def exchange(
    http: aiohttp.ClientSession, method: str, url: str, body: bytes | None, *, seconds: float, most: int
) -> Answer:
    """One call and its whole answer, redirects included; of a body that is larger than `most`, `most` + 1 bytes.

    Raises CloudUnavailable: no answer within `seconds`, or none that is HTTP; CertificateRefused where TLS says so.
    """
    path = f"{method} {urlsplit(url).path}"
    headers = {"Content-Type": "application/json"} if body is not None else {}
    try:
        async with http.request(
            method,
            url,
            data=body,
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=seconds),
        ) as response:
            read = bytearray()
            async for part in response.content.iter_any():
                read += part
                if len(read) > most:
                    response.close()
                    break
            return Answer(response.status, bytes(read[: most + 1]), _retry_after(response.headers))
    except TimeoutError:
        reason = f"no answer within {seconds:g} s"
    except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: an answer that aiohttp cannot read
        alert = next(filter(None, map(refusing_alert, _causes(error))), None)
        if alert is not None:
            raise CertificateRefused(
                f"the Cloud does not take our certificate (TLS alert {alert}): it may be expired or revoked; "
                "get a new one"
            ) from None
        reason = _reason(error)
    raise CloudUnavailable(f"the Cloud did not answer {path}: {reason}") from None


def printable(body: bytes) -> str:
    """What of an answer a message shows: SHOWN characters at most, no control characters, and no PEM block."""
    text = body[: 4 * SHOWN].decode("utf-8", "replace")
    text = "".join(c if c in _PRINTABLE or (c.isprintable() and not c.isascii()) else " " for c in text)
    text = " ".join(text.partition("-----BEGIN")[0].split())
    return text[:SHOWN] or "(nothing readable)"


def _retry_after(headers: Mapping[str, str]) -> int | None:
    """Seconds; a date counts from the answer's own, so that our clock does not matter."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        if text.isascii() and text.isdigit():
            seconds = int(text[:9])
        else:
            until, now = parsedate_to_datetime(text), parsedate_to_datetime(headers.get("Date", ""))
            seconds = int((until - now).total_seconds())
    except (ValueError, TypeError):  # TypeError: dates with and without a zone
        return None
    return min(max(seconds, 0), _LONGEST_RETRY)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what lies behind it, as far as libraries say."""
    for _ in range(8):
        if error is None:
            return
        yield error
        inner = getattr(error, "os_error", None)  # where aiohttp keeps what a connection failed with
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__


def refusing_alert(error: BaseException) -> str | None:
    """The TLS alert by which the server refused our certificate; None where it is another error. Our own refusal of
    the server's certificate is none."""
    name = str(getattr(error, "reason", None) or "") if isinstance(error, ssl.SSLError) else ""
    return name if "ALERT" in name and any(part in name for part in _ALERTS) else None


def _reason(error: Exception) -> str:
    """Why a call failed, for operators."""
    for each in _causes(error):
        if isinstance(each, aiohttp.ClientSSLError):
            continue  # what it was raised from knows more
        if isinstance(each, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not trusted ({printable(str(each.verify_message).encode())}): check "
                "managed.cp_ca_cert_file and the CA of the bundle"
            )
        if isinstance(each, ssl.SSLError):
            return f"TLS failed ({each.reason or 'connection ended'})"
        if isinstance(each, OSError) and each.strerror:
            return printable(each.strerror.encode())
    return type(error).__name__
