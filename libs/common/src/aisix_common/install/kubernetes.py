"""Secrets of the Kubernetes API, made and read by a job in a pod: three calls over HTTP, with the pod's own token.

The services that need more of the API have a client of their own; a job that runs before every installation should
need no package that is not in every image.
"""

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from .progress import Failed, Job, Later

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds `token`, `ca.crt` and `namespace`."""
_SECONDS: Final = 10.0
"""One request may take."""
_MOST_BYTES: Final = 4 << 20
_LATER: Final = frozenset({408, 429, 500, 502, 503, 504})

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cluster:
    """How the API is reached from a pod."""

    host: str
    port: int
    folder: Path = SERVICE_ACCOUNT

    @property
    def namespace(self) -> str:
        """The pod's. Raises Failed."""
        return _read(self.folder / "namespace").strip()


def cluster(environ: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Cluster:
    """The cluster this process runs in. Raises Failed."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not port.isdecimal():
        raise Failed("KUBERNETES_SERVICE_HOST is not set: run this in a pod, with its ServiceAccount's token mounted")
    return Cluster(host, int(port), folder)


class Secrets:
    """The Secrets of one namespace. Every call raises Failed."""

    def __init__(self, cluster: Cluster, namespace: str, job: Job) -> None:
        self._cluster = cluster
        self._path = f"/api/v1/namespaces/{quote(namespace, safe='')}/secrets"
        self._namespace = namespace
        self._job = job

    def get(self, name: str) -> Document | None:
        """The Secret as it is, or None."""
        status, found = self._call("GET", name, None)
        return None if status == 404 else found

    def create(self, document: Document) -> bool:
        """Make it; False: there is one of this name already."""
        status, _ = self._call("POST", document["metadata"]["name"], document)
        return status != 409

    def replace(self, document: Document) -> bool:
        """Write it over the one with its resourceVersion; False: that is not the newest any more."""
        status, _ = self._call("PUT", document["metadata"]["name"], document)
        return status != 409

    def _call(self, method: str, name: str, document: Document | None) -> tuple[int, Document]:
        return self._job.patiently(f"Kubernetes, Secret {name}", lambda: self._once(method, name, document))

    def _once(self, method: str, name: str, document: Document | None) -> tuple[int, Document]:
        """One request. Raises Later and Failed; what the server says is not repeated, as it may quote the request."""
        path = self._path if method == "POST" else f"{self._path}/{quote(name, safe='')}"
        token = _read(self._cluster.folder / "token").strip()  # each time: it is renewed in place
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        body = None
        if document is not None:
            headers["Content-Type"], body = "application/json", json.dumps(document).encode()
        connection = http.client.HTTPSConnection(
            self._cluster.host, self._cluster.port, timeout=self._job.left(_SECONDS), context=self._context()
        )
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            status, text = answer.status, answer.read(_MOST_BYTES)
            wait = answer.getheader("Retry-After", "")
        except ssl.SSLCertVerificationError as error:
            raise Failed(f"the Kubernetes API's certificate is not one of the cluster's: {error.verify_message}")
        except (OSError, http.client.HTTPException) as error:
            raise Later(f"the API is not reached ({type(error).__name__})")
        finally:
            connection.close()
        if status in _LATER or status == 401:  # a token that was rotated is there in a moment
            raise Later(f"the API answers {status}", float(wait) if wait.isdecimal() else 1.0)
        if status == 403:
            raise Failed(
                f"the Kubernetes API does not let this ServiceAccount {method} the Secret {self._namespace}/{name}: "
                "the chart's hooks make a Role for it; see whether something took it away, or make the Secret yourself "
                "and name it as existingSecret"
            )
        if status in (404, 409) or 200 <= status < 300:
            if status == 404 and method == "POST":
                raise Failed(f"the namespace {self._namespace} does not exist")
            return status, _parsed(text)
        raise Failed(f"the Kubernetes API refused the Secret {self._namespace}/{name} with {status}")

    def _context(self) -> ssl.SSLContext:
        authority = self._cluster.folder / "ca.crt"
        try:
            context = ssl.create_default_context(cafile=str(authority))
        except (OSError, ssl.SSLError):
            raise Failed(f"{authority} cannot be read: mount the ServiceAccount's token")
        # Authorities of older clusters lack extensions that Python 3.13 insists on by default.
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        return context


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise Failed(f"{path} cannot be read ({error.strerror}): mount the ServiceAccount's token")


def _parsed(text: bytes) -> Document:
    try:
        document = json.loads(text)
    except ValueError:
        raise Later("the API's answer is no JSON")
    return document if isinstance(document, dict) else {}
