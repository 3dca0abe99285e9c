"""The Kubernetes API as the agent uses it: one Secret and one Lease. Blocking: call it in a thread.

Of the package `kubernetes`, which is loaded when a client is made, this takes the connections alone. Its calls log what
they read, a Secret too, and end in an AttributeError where TLS fails; its models drop the fields they do not know, and
a PUT would then take those of others away. So documents are plain JSON here.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from aisix_common.errors import AisixError, ConfigurationError, Problem

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds `token`, `ca.crt` and `namespace`."""
DEADLINE: Final = 5.0
"""Seconds one request may take."""
_MOST_BYTES: Final = 4 << 20
"""An answer may have: a Secret holds 1 MiB at most, base64 and what the server notes beside it make it larger."""

Document = dict[str, Any]
"""An object of the API, as JSON: whatever is in it goes back as it came."""


class KubernetesError(AisixError):
    """The API did not do what was asked. The text is for operators and holds nothing of a Secret."""


class KubernetesAway(KubernetesError):
    """It was not reached, gave no answer in time, or one that means: later."""


class KubernetesDenied(KubernetesError):
    """It refuses us, or does not let us do this."""


class KubernetesConflict(KubernetesError):
    """Somebody else made, changed or deleted the object since it was read: read it again."""


class KubernetesRejected(KubernetesError):
    """It understood and refused what was sent."""


class Place(NamedTuple):
    """Where an object lies."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind as documents, URLs and Roles name it."""

    kind: str
    plural: str
    group: str = ""

    @property
    def version(self) -> str:
        return f"{self.group}/v1" if self.group else "v1"

    def path(self, namespace: str) -> str:
        return f"/{'apis' if self.group else 'api'}/{self.version}/namespaces/{namespace}/{self.plural}"


SECRET: Final = Kind("Secret", "secrets")
LEASE: Final = Kind("Lease", "leases", "coordination.k8s.io")


def place(text: str, own_namespace: str) -> Place:
    """What `managed.kubernetes_secret` or `managed.kubernetes_lease` names: `<name>` or `<namespace>/<name>`."""
    namespace, _, name = text.rpartition("/")
    return Place(namespace or own_namespace, name)


@dataclass(frozen=True, slots=True)
class Access:
    """How the API is reached. The files are read when they are used: tokens and authorities are replaced."""

    server: str
    token_file: Path
    ca_file: Path
    namespace: str
    """The pod's own, where a name comes without one."""


def in_cluster(environ: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Access:
    """The API of the cluster that this pod runs in. Raises ConfigurationError where it runs in none."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise _no_cluster("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
    try:
        namespace = (folder / "namespace").read_text("ascii").strip()
    except (OSError, ValueError):
        namespace = ""
    if not namespace:
        raise _no_cluster(f"{folder}/namespace cannot be read (automountServiceAccountToken must be on)")
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Access(server, folder / "token", folder / "ca.crt", namespace)


def _no_cluster(why: str) -> ConfigurationError:
    settings = "kubernetes_secret and kubernetes_lease"
    return ConfigurationError([Problem("managed", f"{settings} are for a pod in Kubernetes; leave them blank: {why}")])


class Objects(Protocol):
    """The calls on one object. Each takes `timeout` seconds at most and raises KubernetesError."""

    def get(self, kind: Kind, at: Place, timeout: float = DEADLINE) -> Document | None:
        """The object; None where there is none."""
        ...

    def create(self, kind: Kind, at: Place, document: Document, timeout: float = DEADLINE) -> Document:
        """Make it; as it is then. Raises KubernetesConflict where it is there already."""
        ...

    def replace(self, kind: Kind, at: Place, document: Document, timeout: float = DEADLINE) -> Document:
        """Write what was read and changed; as it is then. Raises KubernetesConflict where its `resourceVersion` is not
        that of the object any more."""
        ...


class KubernetesApi:
    """`Objects` of a real API server. One for the process, for any number of threads."""

    def __init__(self, access: Access, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Loads the package, which may take seconds: make it in a thread. Connects to nothing yet.

        Raises ConfigurationError where the package is not installed.
        """
        try:
            from kubernetes.client import Configuration
            from kubernetes.client.rest import RESTClientObject
        except ImportError:
            wanted = "kubernetes_secret and kubernetes_lease need: pip install 'aisix-cloud-agent[kubernetes]'"
            raise ConfigurationError([Problem("managed", wanted)]) from None
        configuration = Configuration(host=access.server)
        configuration.ssl_ca_cert = str(access.ca_file)  # read anew for each connection
        configuration.proxy = None  # HTTPS_PROXY is for what lies outside of the cluster
        configuration.connection_pool_maxsize = 4
        self._access = access
        self._monotonic = monotonic
        self._pool: Any = RESTClientObject(configuration).pool_manager  # urllib3's, which the extra brings

    @property
    def namespace(self) -> str:
        """The pod's own."""
        return self._access.namespace

    def get(self, kind: Kind, at: Place, timeout: float = DEADLINE) -> Document | None:
        answer = self._ask("GET", f"{kind.path(at.namespace)}/{at.name}", None, timeout)
        if answer.status == 404 and answer.is_status:
            return None
        return self._taken(answer, "get", kind, at)

    def create(self, kind: Kind, at: Place, document: Document, timeout: float = DEADLINE) -> Document:
        named = {**document.get("metadata", {}), "namespace": at.namespace, "name": at.name}
        body = {"apiVersion": kind.version, "kind": kind.kind, **document, "metadata": named}
        answer = self._ask("POST", kind.path(at.namespace), body, timeout)
        if answer.status == 404 and answer.is_status:
            raise KubernetesRejected(f"{kind.kind} {at} cannot be made: there is no namespace {at.namespace}")
        return self._taken(answer, "create", kind, at)

    def replace(self, kind: Kind, at: Place, document: Document, timeout: float = DEADLINE) -> Document:
        answer = self._ask("PUT", f"{kind.path(at.namespace)}/{at.name}", document, timeout)
        if answer.status == 404 and answer.is_status:
            raise KubernetesConflict(f"{kind.kind} {at} was deleted meanwhile")
        return self._taken(answer, "update", kind, at)

    def _taken(self, answer: "_Answer", verb: str, kind: Kind, at: Place) -> Document:
        """The object in an answer. Raises what another one means."""
        if answer.status in (200, 201) and answer.document.get("kind") == kind.kind:
            return answer.document
        raise _why_not(answer, verb, kind, at)

    def _ask(self, method: str, path: str, body: Document | None, timeout: float) -> "_Answer":
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError, NewConnectionError, SSLError, TimeoutError

        headers = {"Accept": "application/json", "Authorization": f"Bearer {self._token()}"}
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        ends = self._monotonic() + timeout
        away = KubernetesAway(f"the Kubernetes API ({self._access.server}) cannot be reached")
        late = KubernetesAway(f"the Kubernetes API ({self._access.server}) gave no whole answer within {timeout:g} s")
        received = bytearray()
        try:
            response = self._pool.request(
                method,
                self._access.server + path,
                body=data,
                headers=headers,
                timeout=Timeout(total=timeout),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            try:
                while chunk := response.read1(1 << 16):
                    received += chunk
                    if len(received) > _MOST_BYTES or self._monotonic() > ends:
                        response.close()
                        raise late
            finally:
                response.release_conn()
        except NewConnectionError:  # a TimeoutError, too
            raise away from None
        except TimeoutError:
            raise late from None
        except SSLError:
            raise KubernetesAway(
                f"the Kubernetes API ({self._access.server}) shows a certificate that {self._access.ca_file} does not "
                "vouch for, or speaks no TLS"
            ) from None
        except (HTTPError, OSError):
            raise away from None
        return _Answer(response.status, _json(bytes(received)))

    def _token(self) -> str:
        try:
            token = self._access.token_file.read_text("ascii").strip()
        except (OSError, ValueError):
            token = ""
        if not token:
            raise KubernetesDenied(
                f"{self._access.token_file} cannot be read: the pod needs the token of a service account "
                "(automountServiceAccountToken)"
            )
        return token


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    document: Document

    @property
    def is_status(self) -> bool:
        """Whether the API itself says no, and not something that stands before it."""
        return self.document.get("kind") == "Status"


def _json(data: bytes) -> Document:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _why_not(answer: _Answer, verb: str, kind: Kind, at: Place) -> KubernetesError:
    status, what = answer.status, f"{kind.kind} {at}"
    if status == 429 or status >= 500:
        return KubernetesAway(f"the Kubernetes API answers {status} to {verb} {what}")
    if not answer.is_status:
        return KubernetesAway(f"what answers ({status}) for {what} is not the Kubernetes API: what stands before it?")
    if status == 401:
        return KubernetesDenied("the Kubernetes API refuses the token of the service account (401): it has expired")
    if status == 403:
        return KubernetesDenied(_forbidden(str(answer.document.get("message")), verb, kind, at))
    if status == 409:
        return KubernetesConflict(f"{what} was changed meanwhile")
    return KubernetesRejected(f"the Kubernetes API refuses to {verb} {what} ({status}{_fields(answer.document)})")


def _forbidden(said: str, verb: str, kind: Kind, at: Place) -> str:
    if "is forbidden: User " not in said:
        return (
            f"an admission rule or a quota of namespace {at.namespace} forbids to {verb} {kind.kind} {at.name} (403): "
            "the API server's log or audit says which"
        )
    named = "" if verb == "create" else f', resourceNames: ["{at.name}"]'  # a Role cannot name what is not there yet
    rule = f'{{apiGroups: ["{kind.group}"], resources: ["{kind.plural}"]{named}, verbs: ["{verb}"]}}'
    text = f"the service account may not {verb} {kind.plural} in namespace {at.namespace} (403): its Role needs {rule}"
    return f"{text}, or make {kind.kind} {at} beforehand" if verb == "create" else text


def _fields(document: Document) -> str:
    """Which fields are wrong; what is said of them may hold their values."""
    details = document.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    names = [str(cause.get("field"))[:80] for cause in causes or () if isinstance(cause, dict)]
    return f": {', '.join(names[:3])!a}" if names else ""
