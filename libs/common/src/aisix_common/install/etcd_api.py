"""etcd's HTTP API (its JSON gateway) as the jobs use it: users and roles, care, snapshots. Blocking.

The services speak gRPC (`aisix_common.store`), which knows of rows only; what these jobs call, no service may.
"""

import base64
import http.client
import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from .progress import Failed, Job, Later

SECONDS: Final = 30.0
"""One call may take, unless it is known to take longer."""
_LATER_TEXTS: Final = (
    "request timed out",
    "no leader",
    "leader changed",
    "too many requests",
    "connection error",  # the gateway speaks to its own member, which may not listen yet
    "context deadline exceeded",
    "transport is closing",
    "server stopped",
    "status 502",
    "status 503",
    "status 504",
)
_STALE: Final = ("invalid auth token", "revision in header is old", "user name is empty")


class Refused(Exception):
    """etcd did not do it. The text is etcd's own."""


class Broken(Failed):
    """A member broke off in the middle of a stream, or did not begin."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: run this again")
        self.what = what


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files for the link to etcd."""

    ca: Path
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Raises Failed."""
        try:
            context = ssl.create_default_context(cafile=str(self.ca))
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise Failed(f"{self.ca}, {self.certificate} and {self.key} cannot be used towards etcd: {error}")
        return context


class EtcdApi:
    """A cluster, as one user. Calls raise Refused and Failed; they wait for an etcd that is away, in time."""

    def __init__(self, endpoints: Sequence[str], tls: Tls | None, job: Job) -> None:
        self.endpoints = tuple(endpoints)
        self._context = tls.context() if tls is not None else None
        self._job = job
        self._turn = 0
        self._user: tuple[str, str] | None = None
        self._token = ""

    def login(self, user: str, password: str) -> bool:
        """Be that user from now on; False: etcd asks for none. Raises Refused: it is not that user's password."""
        self._token = ""
        try:
            answer = self._call("/v3/auth/authenticate", {"name": user, "password": password}, None)
        except Refused as refused:
            if "authentication is not enabled" in str(refused):
                self._user = None
                return False
            raise
        self._user, self._token = (user, password), str(answer.get("token", ""))
        return True

    def trial(self, user: str, password: str) -> None:
        """Whether that is the user's password, without being that user. Raises Refused."""
        self._call("/v3/auth/authenticate", {"name": user, "password": password}, None)

    def call(
        self, path: str, document: Mapping[str, object], member: str | None = None, seconds: float = SECONDS
    ) -> dict[str, Any]:
        """One call, of any member or of that one; its answer. `seconds`: how long it may take."""
        try:
            return self._call(path, document, member, seconds)
        except Refused as refused:
            if self._user is None or not any(text in str(refused) for text in _STALE):
                raise
        self.login(*self._user)  # users or roles have changed since
        return self._call(path, document, member, seconds)

    def pieces(self, path: str, document: Mapping[str, object], member: str) -> Iterator[dict[str, Any]]:
        """The messages of a call that answers with many. A stream that breaks raises Broken."""
        connection = self._connect(member)
        try:
            connection.request("POST", path, json.dumps(document).encode(), self._headers())
            answer = connection.getresponse()
            if answer.status != 200:
                raise Refused(_reason(answer.status, answer.read()))
            while line := answer.readline():
                message = json.loads(line)
                if message.get("error") is not None:
                    raise Refused(_reason(answer.status, line))
                yield message.get("result", {})
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Broken(f"etcd at {member} broke off in the middle ({type(error).__name__})")
        finally:
            connection.close()

    def _call(
        self, path: str, document: Mapping[str, object], member: str | None, seconds: float = SECONDS
    ) -> dict[str, Any]:
        return self._job.patiently("etcd", lambda: self._once(path, document, member, seconds))

    def _once(self, path: str, document: Mapping[str, object], member: str | None, seconds: float) -> dict[str, Any]:
        endpoint = member or self.endpoints[self._turn % len(self.endpoints)]
        connection = self._connect(endpoint, seconds)
        try:
            connection.request("POST", path, json.dumps(document).encode(), self._headers())
            answer = connection.getresponse()
            status, text = answer.status, answer.read()
        except ssl.SSLCertVerificationError as error:
            raise Failed(
                f"etcd at {endpoint} shows a certificate that the authority did not issue: {error.verify_message}"
            )
        except (OSError, http.client.HTTPException) as error:
            self._turn += 1
            raise Later(f"{endpoint} is not reached ({type(error).__name__})")
        finally:
            connection.close()
        if status != 200:
            reason = _reason(status, text)
            if any(later in reason for later in _LATER_TEXTS):
                self._turn += 1
                raise Later(f"{endpoint} is not ready ({reason})")
            raise Refused(reason)
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            raise Later(f"{endpoint} answers without a JSON object")
        return parsed

    def _connect(self, endpoint: str, seconds: float = SECONDS) -> http.client.HTTPConnection:
        try:
            parts = urlsplit(endpoint)
            host, port = parts.hostname, parts.port or 2379
        except ValueError:
            host = None
        if not host or parts.scheme not in ("http", "https"):
            raise Failed(f"{endpoint} is no endpoint: write http://host:port or https://host:port")
        seconds = self._job.left(seconds)
        if parts.scheme == "https":
            context = self._context or ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=seconds, context=context)
        return http.client.HTTPConnection(host, port, timeout=seconds)

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        return {**headers, "Authorization": self._token} if self._token else headers


def _reason(status: int, body: bytes) -> str:
    """Why etcd did not do it, whichever of its releases says it."""
    try:
        said = json.loads(body)
        said = said.get("error", said) if isinstance(said.get("error"), dict) else said
        return str(said.get("message") or said["error"])
    except (ValueError, AttributeError, KeyError, TypeError):
        if b"CommonName of client" in body:
            return "its HTTP API takes no client certificate with a common name (CN): issue this one without"
        return f"status {status}"


def encoded(text: str) -> str:
    """A key as the API takes it."""
    return base64.b64encode(text.encode()).decode()


def decoded(text: str) -> str:
    """A key as it comes; one that is no text cannot be ours, and shows as something else."""
    return base64.b64decode(text).decode("utf-8", "backslashreplace")
