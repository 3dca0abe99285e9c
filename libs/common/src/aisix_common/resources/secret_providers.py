"""`secret_providers`: where secret references lead to (design 7; customer-documents 6.4). A kind of ours, under the ext
root of etcd.

A provider is known by its manager and its name: `$secret://<manager>/<name>/...`. Nothing in a row names a file of the
gateway: whoever may write rows must not learn what the gateway's files hold.
"""

from collections.abc import Sequence
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from aisix_common.secret import Secret, is_reference

from .concealed import secrets_in
from .flaw import Flaw
from .kind import Kind
from .scalars import SecretText, Text

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z")]
Url: TypeAlias = Annotated[
    str, Meta(min_length=8, max_length=2048, pattern=r"^https?://[^/?#@\\\s]+(?:/[^?#@\\\s]*)?\Z")
]
"""A base URL: no user, no query, no fragment."""
PathText: TypeAlias = Annotated[
    str, Meta(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*\Z")
]
"""Segments of a URL's path."""
_DOTS: Final = frozenset({".", ".."})


class VaultToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="method", tag="token", gc=False):
    """A token that somebody else renews."""

    token: SecretText


class VaultKubernetes(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="method", tag="kubernetes", gc=False
):
    """Log in with the service account of the proxy's pod."""

    role: Text
    mount: PathText = "kubernetes"


class VaultAppRole(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="method", tag="approle", gc=False
):
    """Log in with a role id and a secret id."""

    role_id: Text
    secret_id: SecretText
    mount: PathText = "approle"


class Vault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="manager", tag="vault", gc=False):
    """HashiCorp Vault or OpenBao, its key-value engine. The last segment of a reference is the key in the secret."""

    name: Name
    uri: Url
    auth: VaultToken | VaultKubernetes | VaultAppRole
    kv_version: Annotated[str, Meta(pattern=r"^v[12]\Z")] = "v2"
    mount: PathText = "secret"
    """Where the engine is mounted."""
    prefix: PathText | None = None
    """What all paths of references are below of, inside of the engine."""
    namespace: Text | None = None
    ca_cert: Text | None = None
    """PEM, trusted besides the system's authorities."""

    @property
    def identity(self) -> str:
        """`<manager>/<name>`."""
        return f"vault/{self.name}"


class Aws(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="manager", tag="aws", gc=False):
    """AWS Secrets Manager. Without keys the default chain is used: environment, web identity, container, instance."""

    name: Name
    region: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9-]+\Z")] = "us-east-1"
    endpoint_url: Url | None = None
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None

    @property
    def identity(self) -> str:
        """`<manager>/<name>`."""
        return f"aws/{self.name}"


class Azure(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="manager", tag="azure", gc=False):
    """Azure Key Vault. Without client credentials the workload identity of the pod is used."""

    name: Name
    vault_url: Url
    tenant_id: Text | None = None
    client_id: Text | None = None
    client_secret: Secret | None = None
    authority_host: Url | None = None
    """Where tokens come from, for clouds of their own; default: the public one."""

    @property
    def identity(self) -> str:
        """`<manager>/<name>`."""
        return f"azure/{self.name}"


class Gcp(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="manager", tag="gcp", gc=False):
    """Google Secret Manager. Without a service account the workload identity of the pod is used."""

    name: Name
    project_id: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9:._-]+\Z")]
    service_account: Secret | None = None
    """The JSON text of a service account's key."""
    endpoint_url: Url | None = None

    @property
    def identity(self) -> str:
        """`<manager>/<name>`."""
        return f"gcp/{self.name}"


class Kubernetes(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="manager", tag="kubernetes", gc=False
):
    """Secrets of the cluster: `$secret://kubernetes/<provider>/<namespace>/<name>/<key>`.

    Without `apiserver` it is the cluster the proxy runs in, with the service account of its pod.
    """

    name: Name
    namespaces: Annotated[tuple[Text, ...], Meta(min_length=1)]
    """Whose Secrets may be read; a `*` matches anything."""
    names: Annotated[tuple[Text, ...], Meta(min_length=1)]
    """Which Secrets may be read; a `*` matches anything."""
    apiserver: Url | None = None
    token: Secret | None = None
    """For another cluster, where it is needed; the pod's own token never goes there."""
    ca_cert: Text | None = None

    @property
    def identity(self) -> str:
        """`<manager>/<name>`."""
        return f"kubernetes/{self.name}"


SecretProvider: TypeAlias = Vault | Aws | Azure | Gcp | Kubernetes


def rules(value: SecretProvider, strict: bool) -> Sequence[Flaw]:
    """What belongs together, and that a provider's own secrets come from nowhere that needs a provider."""
    flaws = [
        Flaw(at, "may refer to $env:// only: a provider's own secret cannot come from a provider")
        for at, secret in secrets_in(value)
        if (text := secret.stored) is not None and is_reference(text) and text.lower().startswith("$secret:")
    ]
    flaws += [Flaw(at, "value is shorter than 1 character") for at, secret in secrets_in(value) if not secret]
    if isinstance(value, Vault):
        paths = {
            ("mount",): value.mount,
            ("prefix",): value.prefix,
            ("auth", "mount"): getattr(value.auth, "mount", None),
        }
        flaws += [
            Flaw(at, "must not hold `.` or `..` as a segment")
            for at, path in paths.items()
            if path is not None and _DOTS & set(path.split("/"))
        ]
    if isinstance(value, Aws) and (value.access_key_id is None) != (value.secret_access_key is None):
        missing = "access_key_id" if value.access_key_id is None else "secret_access_key"
        flaws.append(Flaw((missing,), "must be given: access_key_id and secret_access_key go together"))
    if isinstance(value, Azure):
        given = [value.tenant_id, value.client_id, value.client_secret]
        if any(each is not None for each in given) and any(each is None for each in given):
            flaws.append(Flaw((), "tenant_id, client_id and client_secret go together, or none of them is given"))
    if isinstance(value, Kubernetes) and (value.apiserver is None) != (value.token is None):
        missing = "apiserver" if value.apiserver is None else "token"
        flaws.append(Flaw((missing,), "must be given: apiserver and token go together"))
    return flaws


SECRET_PROVIDERS: Final[Kind[SecretProvider]] = Kind(
    "secret_providers",
    SecretProvider,
    name_field="identity",
    label_field="name",
    nulls=True,
    rules=rules,
    type_name="SecretProvider",
    external=True,
    destinations=(
        *("uri", "mount", "prefix", "namespace", "ca_cert", "apiserver"),
        *("endpoint_url", "region", "vault_url", "authority_host"),
    ),
)
"""Known by `identity`, `<manager>/<name>`: it is no field of the document."""
