"""`passthrough_routes`: requests relayed as they are, without understanding them (control-plane 3.14)."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from .flaw import Flaw
from .kind import Kind
from .reference import Reference, by_id
from .scalars import LowerHeaderName, PositiveU64, Text

RESERVED: Final = ("/v1", "/mcp", "/a2a", "/admin", "/livez", "/readyz", "/metrics")
"""Paths that are the gateway's own: a route without hosts must not take them."""

NOT_FOR_IDENTITY: Final = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"})
"""Headers that carry credentials of their own, and so are no place for ours."""

_LABEL: Final = "[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
Host: TypeAlias = Annotated[
    str, Meta(max_length=253, pattern=rf"^(?:\*(?:\.{_LABEL}){{2,}}|{_LABEL}(?:\.{_LABEL})*)\Z")
]
"""A host name, or `*.` before at least two labels."""


class PassthroughRoute(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One route."""

    name: Text
    """`display_name` is its older spelling."""
    path_prefix: Annotated[str, Meta(pattern=r"^/")] | None = None
    hosts: Annotated[tuple[Host, ...], Meta(min_length=1)] | None = None
    target_url: Annotated[str, Meta(pattern=r"^https?://")] | None = None
    preserve_host: bool = False
    """Relay to the host that the caller asked for."""
    auth_mode: Literal["gateway_key", "header_key", "anonymous"] = "gateway_key"
    auth_header_name: LowerHeaderName | None = None
    anonymous_key_id: Text | None = None
    """The caller key that stands for callers without one."""
    source_cidrs: tuple[Text, ...] | None = None
    credential_mode: Literal["inject", "forward_client"] = "inject"
    provider_key_id: Text | None = None
    identity_header: LowerHeaderName | None = None
    timeout_ms: PositiveU64 | None = None
    enabled: bool = True


def rules(value: PassthroughRoute, strict: bool) -> Sequence[Flaw]:
    """What is matched, where it goes, and what each way to authenticate needs and excludes."""
    return [*_matching(value), *_going(value), *_authenticating(value)]


def _matching(value: PassthroughRoute) -> Sequence[Flaw]:
    if value.path_prefix is None and value.hosts is None:
        return [Flaw((), "`path_prefix`, `hosts` or both must be given")]
    path = value.path_prefix or ""
    if value.hosts is None and any(path == own or path.startswith(f"{own}/") for own in RESERVED):
        return [Flaw(("path_prefix",), "a path of the gateway itself needs `hosts` beside it")]
    return ()


def _going(value: PassthroughRoute) -> Sequence[Flaw]:
    if value.preserve_host == (value.target_url is not None):
        return [Flaw((), "exactly one of `target_url` and `preserve_host` must be given")]
    if value.preserve_host and value.hosts is None:
        return [Flaw(("preserve_host",), "needs `hosts`")]
    return ()


def _authenticating(value: PassthroughRoute) -> Sequence[Flaw]:
    flaws = [
        *_with("auth_header_name", value.auth_header_name, "auth_mode", "header_key", value.auth_mode),
        *_with("anonymous_key_id", value.anonymous_key_id, "auth_mode", "anonymous", value.auth_mode),
        *_with("provider_key_id", value.provider_key_id, "credential_mode", "inject", value.credential_mode),
    ]
    if value.auth_mode == "anonymous" and not value.source_cidrs:
        flaws.append(_missing("source_cidrs", "with auth_mode anonymous"))
    slots = ("auth_header_name", "identity_header")
    taken = [name for name in slots if getattr(value, name) in NOT_FOR_IDENTITY]
    return flaws + [Flaw((name,), "a header of other credentials is not accepted") for name in taken]


def _with(name: str, given: str | None, field: str, mode: str, present: str) -> Sequence[Flaw]:
    """`name` belongs to one mode: needed there, refused elsewhere."""
    if present == mode:
        return () if given is not None else [_missing(name, f"with {field} {mode}")]
    return () if given is None else [Flaw((name,), f"only accepted with {field} {mode}")]


def _missing(name: str, when: str) -> Flaw:
    return Flaw((), f'"{name}" is a required property {when}')


def references(value: PassthroughRoute) -> Sequence[Reference]:
    """The provider key, and the caller key that stands for anonymous callers."""
    found = by_id("provider_keys", ("provider_key_id",), value.provider_key_id)
    return found + by_id("api_keys", ("anonymous_key_id",), value.anonymous_key_id)


PASSTHROUGH_ROUTES: Final = Kind(
    "passthrough_routes",
    PassthroughRoute,
    name_field="name",
    nulls=True,
    rules=rules,
    renamed={"display_name": "name"},
    references=references,
)
