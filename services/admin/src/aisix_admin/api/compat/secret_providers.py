"""Secret providers as Apache APISIX and API7 Gateway write them (customer-documents 6.4), to and from ours. Pure.

Where those have no field for what ours can, ours is shown, and taken: what a GET shows may be sent back.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import msgspec

from aisix_common.errors import Problem
from aisix_common.resources import SECRET_PROVIDERS, SecretProvider, masked
from aisix_common.resources.secret_providers import Vault
from aisix_common.secret import MASK, is_reference

from ...merge_patch import merge_patch
from .envelope import Collection

COLLECTION: Final = Collection("secret_providers", "Secret provider", "Secret provider already exists")
DEFAULT_TOKEN_URI: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
_KV: Final = "kv-"
"""What those put before the version of Vault's key-value engine."""
_IN_ACCOUNT: Final = ("client_email", "private_key", "token_uri")
"""Members of `auth_config` that are part of our one secret."""
_Fields: TypeAlias = dict[str, Any]


def outward(value: SecretProvider) -> _Fields:
    """As this dialect shows it, secrets masked."""
    ours = masked(SECRET_PROVIDERS, value)
    manager, name = ours.pop("manager"), ours.pop("name")
    return {"id": name, "manager": manager, **_OUTWARD.get(manager, dict)(ours)}


def patched(value: SecretProvider, patch: Mapping[str, Any]) -> _Fields:
    """What a JSON merge patch makes of what is shown. Whoever patches our `mount`, which this dialect has in `prefix`,
    means our prefix, too: what is below the mount."""
    shown = outward(value)
    if "mount" in patch and isinstance(value, Vault):
        shown["prefix"] = value.prefix
    merged: _Fields = merge_patch(shown, patch)
    return merged


def inward(
    manager: str, name: str, sent: Mapping[str, Any], current: SecretProvider | None
) -> tuple[_Fields, list[Problem]]:
    """Our document of what was sent for the provider `manager`/`name`, and what is wrong with it in words of this
    dialect: with any of that the document is of no use."""
    fields, problems = dict(sent), list[Problem]()
    for told, known in (("id", name), ("name", name), ("manager", manager)):
        if fields.pop(told, known) != known:
            problems.append(Problem(f"/{told}", "must be what the path says, or be left out"))
    translate = _INWARD.get(manager)
    if translate is not None:
        fields = translate(fields, {} if current is None else masked(SECRET_PROVIDERS, current), problems)
    return {**fields, "manager": manager, "name": name}, problems


def place(problem: Problem, manager: str, sent: Mapping[str, Any]) -> Problem:
    """A problem of our document, where the field stands in what was sent."""
    for ours, theirs, unless in _PLACES.get(manager, ()):
        if (problem.path == ours or problem.path.startswith(ours + "/")) and unless not in sent:
            return Problem(theirs, problem.reason)
    return Problem("/id", f"of the path {problem.reason}") if problem.path == "/name" else problem


def _vault_outward(ours: _Fields) -> _Fields:
    auth = ours.pop("auth")
    proof = {"token": auth["token"]} if auth["method"] == "token" else {"auth": auth}
    whole = _joined(ours)
    ours.pop("mount")
    return {**ours, "prefix": whole, **proof, "kv_version": _KV + ours["kv_version"]}


def _vault_inward(fields: _Fields, current: _Fields, problems: list[Problem]) -> _Fields:
    if "token" in fields:
        if "auth" in fields:
            problems.append(Problem("/token", "give either `token` or `auth`, not both"))
        fields["auth"] = {"method": "token", "token": fields.pop("token")}
    version = fields.get("kv_version", _KV + "v1")  # what those mean by saying nothing
    fields["kv_version"] = version.removeprefix(_KV) if isinstance(version, str) else version
    prefix = fields.get("prefix")
    if isinstance(prefix, str) and "mount" not in fields:
        whole = prefix.strip("/")
        if current.get("manager") == "vault" and whole == _joined(current):
            mount, rest = current["mount"], current.get("prefix")  # a mount may have several segments
        else:
            mount, _, rest = whole.partition("/")
        fields["mount"] = mount
        fields["prefix"] = rest or None
    return fields


def _joined(ours: Mapping[str, Any]) -> str:
    return "/".join(part for part in (ours["mount"], ours.get("prefix")) if part)


def _gcp_outward(ours: _Fields) -> _Fields:
    if ours.get("service_account") != MASK:
        return ours
    rest = {name: item for name, item in ours.items() if name not in ("service_account", "project_id")}
    return {**rest, "auth_config": {"project_id": ours["project_id"], **dict.fromkeys(_IN_ACCOUNT, MASK)}}


def _gcp_inward(fields: _Fields, current: _Fields, problems: list[Problem]) -> _Fields:
    if "auth_file" in fields:
        reason = "is not taken: a resource names no file of the gateway; send `auth_config`, or a `service_account`"
        problems.append(Problem("/auth_file", reason))
    if fields.pop("ssl_verify", True) is not True:
        problems.append(Problem("/ssl_verify", "must be true: secrets do not come from who cannot prove to be Google"))
    if "auth_config" not in fields:
        return fields
    config = fields.pop("auth_config")
    if not isinstance(config, dict):
        problems.append(Problem("/auth_config", "must be an object"))
        return fields
    twice = [name for name in ("project_id", "service_account") if name in fields]
    problems += [Problem(f"/{name}", "give either this or `auth_config`, not both") for name in twice]
    fields["project_id"] = config.get("project_id")
    fields["service_account"] = _account(config, problems)
    return fields


def _account(config: Mapping[str, Any], problems: list[Problem]) -> str:
    """The JSON text of a service account's key, or the mask where all of it is kept."""
    given = {"token_uri": DEFAULT_TOKEN_URI, **config}
    unknown = [name for name in config if name not in ("project_id", *_IN_ACCOUNT)]
    problems += [Problem(f"/auth_config/{name}", "unknown field") for name in unknown]
    if config.get("private_key") == MASK and all(config.get(name, MASK) == MASK for name in _IN_ACCOUNT):
        return MASK
    for name in ("project_id", *_IN_ACCOUNT):
        text, reason = given.get(name), ""
        if name not in given:
            reason = "required field is missing"
        elif not isinstance(text, str) or not text:
            reason = "must be a string of at least 1 character"
        elif text == MASK:
            reason = f"{MASK} keeps the key as a whole: send {', '.join(_IN_ACCOUNT)} together, or none of them anew"
        elif is_reference(text):
            reason = "cannot be a reference by itself: let `service_account` refer to the whole key"
        if reason:
            problems.append(Problem(f"/auth_config/{name}", reason))
    account = {"type": "service_account", **{name: given.get(name) for name in ("project_id", *_IN_ACCOUNT)}}
    return msgspec.json.encode(account).decode()


def _kubernetes_outward(ours: _Fields) -> _Fields:
    address = ours.pop("apiserver", None)
    return {**({} if address is None else {"apiserver_addr": address}), **ours}


def _kubernetes_inward(fields: _Fields, current: _Fields, problems: list[Problem]) -> _Fields:
    if "apiserver_addr" in fields:
        if "apiserver" in fields:
            problems.append(Problem("/apiserver_addr", "give either this or `apiserver`, not both"))
        fields["apiserver"] = fields.pop("apiserver_addr")
    return fields


_OUTWARD: Final[Mapping[str, Callable[[_Fields], _Fields]]] = MappingProxyType(
    {"vault": _vault_outward, "gcp": _gcp_outward, "kubernetes": _kubernetes_outward}
)
_INWARD: Final[Mapping[str, Callable[[_Fields, _Fields, list[Problem]], _Fields]]] = MappingProxyType(
    {"vault": _vault_inward, "gcp": _gcp_inward, "kubernetes": _kubernetes_inward}
)
_PLACES: Final[Mapping[str, tuple[tuple[str, str, str], ...]]] = MappingProxyType(
    {
        "vault": (("/auth", "/token", "auth"), ("/mount", "/prefix", "mount")),
        "gcp": (
            ("/service_account", "/auth_config", "service_account"),
            ("/project_id", "/auth_config/project_id", "project_id"),
        ),
        "kubernetes": (("/apiserver", "/apiserver_addr", "apiserver"),),
    }
)
"""Where a field of ours stands in this dialect, unless ours was sent."""
