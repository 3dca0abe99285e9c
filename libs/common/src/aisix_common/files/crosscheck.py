"""Rules between the entries of a resources file, and those only a file has (control-plane 4). Pure.

They hold for entries that are sound by themselves; one entry may break several.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from aisix_common.resources import Kind
from aisix_common.resources.flaw import Path
from aisix_common.resources.reference import Reference

from .report import FileProblem, field_message
from .sugar import dangling

SOFT: Final = frozenset({("api_keys", "models"), ("api_keys", "passthrough_routes")})
"""(who refers, to what): references that a row may make before the other exists, and that a file may not. Other soft
references may stay open in a file too."""

OPEN: Final = frozenset({"cache_policies"})
"""Kinds whose references are not looked at: a policy for a model that is not there applies to nothing."""

CREDENTIALS: Final = frozenset({"access_token", "token", "client_secret", "password", "api_key", "apikey"})
"""Query parameters that would put a secret into a URL, which is shown everywhere."""

URLS: Final[Mapping[str, tuple[str, ...]]] = {
    "oidc_providers": ("issuer", "jwks_uri"),
    "mcp_auth_settings": ("resource_url",),
}


@dataclass(frozen=True, slots=True)
class Row:
    """An entry that is sound by itself. `value` is its typed resource."""

    kind: Kind[Any]
    index: int
    identity: str
    id: str
    value: Any

    def problem(self, at: Path, reason: str, *, dangling: bool = False) -> FileProblem:
        """Something wrong with one of its fields."""
        return FileProblem(field_message(at, reason), self.kind.name, self.index, self.identity, dangling=dangling)


def crosscheck(
    rows: Sequence[Row], names: Mapping[str, Set[str]], ids: Mapping[str, Set[str]]
) -> Iterator[FileProblem]:
    """Every problem of `rows`, in their order. `names` and `ids` are, by kind, of every entry that has a name, sound or
    not: what is wrong with one entry is not said of those that name it."""
    once = _Once(rows)
    for row in rows:
        yield from _references(row, names, ids)
        yield from once.problems(row)
        yield from _urls(row)


def _references(row: Row, names: Mapping[str, Set[str]], ids: Mapping[str, Set[str]]) -> Iterator[FileProblem]:
    for reference in row.kind.references(row.value):
        if row.kind.name in OPEN or not (reference.hard or (row.kind.name, reference.kind) in SOFT):
            continue
        if _is_pattern(reference):
            continue
        known = ids if reference.by == "id" else names
        if reference.value not in known.get(reference.kind, frozenset()):
            yield row.problem(reference.at, dangling(reference.kind), dangling=True)


def _is_pattern(reference: Reference) -> bool:
    return not reference.hard and reference.by == "name" and "*" in reference.value


def _urls(row: Row) -> Iterator[FileProblem]:
    for field in URLS.get(row.kind.name, ()):
        value = getattr(row.value, field, None)
        if isinstance(value, str) and _carries_credentials(value):
            yield row.problem((field,), "must not carry a user, a password or a token: URLs are shown")


def _carries_credentials(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return "@" in parts.netloc or any(
            name.lower() in CREDENTIALS for name, _ in parse_qsl(parts.query, keep_blank_values=True)
        )
    except ValueError:
        return False


class _Once:
    """What only one entry may have."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._first: dict[tuple[str, Any], Row] = {}
        for row in rows:
            for key, _ in _claims(row):
                self._first.setdefault(key, row)

    def problems(self, row: Row) -> Iterator[FileProblem]:
        """What of `row` an entry before it has already, and what it lacks to be unique at all."""
        for key, (field, reason) in _claims(row):
            first = self._first[key]
            if first is not row:
                yield row.problem((field,), f"{reason} {row.kind.name}[{first.index}] has already")
        if row.kind.name == "api_keys" and _text(row.value, "jwt_subject") and not _text(row.value, "jwt_provider"):
            yield row.problem(("jwt_subject",), "needs `jwt_provider` beside it")


_Claim = tuple[tuple[str, Any], tuple[str, str]]


def _claims(row: Row) -> Iterator[_Claim]:
    claims = _CLAIMS.get(row.kind.name)
    if claims is not None:
        yield from claims(row.value)


def _key_claims(value: Any) -> Iterator[_Claim]:
    yield ("key_hash", value.key_hash), ("key_hash", "is a key that")
    subject, provider = _text(value, "jwt_subject"), _text(value, "jwt_provider")
    if subject and provider:
        yield ("jwt", (provider, subject)), ("jwt_subject", "is, with its `jwt_provider`, what")


def _issuer_claims(value: Any) -> Iterator[_Claim]:
    if value.enabled:
        yield ("issuer", value.issuer), ("issuer", "is an issuer that the enabled")


def _text(value: Any, field: str) -> str | None:
    found = getattr(value, field, None)
    return found if isinstance(found, str) else None


_CLAIMS: Final[Mapping[str, Callable[[Any], Iterator[_Claim]]]] = {
    "api_keys": _key_claims,
    "oidc_providers": _issuer_claims,
}
