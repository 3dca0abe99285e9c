"""The rows of etcd as a resources file that loads: names for ids, variables for secrets. Pure.

What is written is read back at once, with the secrets in the variables: a file that does not load is never called
sound. Messages hold ids, names and paths, no values.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aisix_common.resources import BY_NAME, Loaded, SecretJson, hash_key, read
from aisix_common.resources.concealed import secrets_in
from aisix_common.secret import is_reference, is_sealed
from aisix_common.secrets.envelope import NO_KEYRING, CannotOpen, Keyring
from aisix_common.secrets.rows import opened
from aisix_common.store.types import KeyValue

from .attachments import Verdict, judge_guardrails, judge_mcp_policies
from .layout import COLLECTIONS, SINGLETON, VERSION, VERSION_FIELD, identity_fields, quoted
from .loader import load
from .placeholders import Placeholders, sealed
from .report import FileRefused
from .sugar import Document
from .unsugar import Identities, unsugared
from .writing import written

_LISTS: Final = (("allowed_models", "models"), ("allowed_routes", "passthrough_routes"))
"""Fields of caller keys that may name what is not there in etcd, and not in a file."""


@dataclass(slots=True)
class Export:
    """A file, and what whoever asked for it has to know."""

    text: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)
    """Rows that cannot be read."""
    blocking: list[str] = field(default_factory=list)
    """Why the file does not load, or would not mean what the rows mean."""
    notes: list[str] = field(default_factory=list)
    placeholders: list[str] = field(default_factory=list)
    """The variables that must be set when the file is loaded."""

    @property
    def sound(self) -> bool:
        """Whether the file says what the rows say."""
        return not self.rejected and not self.blocking


def export(rows: Iterable[KeyValue], prefix: str, *, reveal: bool = False, keyring: Keyring = NO_KEYRING) -> Export:
    """The resources file of all `rows` under `prefix` (without a trailing slash); `keyring` opens what is sealed."""
    made = Export()
    values = _opened(_values(rows, prefix, made), keyring, made, reveal=reveal)
    guardrails = judge_guardrails(values.get("guardrails", {}), values.get("guardrail_attachments", {}).values())
    for verdict in (guardrails, judge_mcp_policies(list(values.get("mcp_policies", {}).values()))):
        made.blocking += verdict.blocking
        made.notes += verdict.notes
    identities = {kind: _identities(kind, values.get(kind, {}), made) for kind in COLLECTIONS}
    secrets = Placeholders(reveal=reveal)
    collections = {}
    for kind in COLLECTIONS:
        kept = {id: value for id, value in values.get(kind, {}).items() if id not in guardrails.left_out}
        entries = [
            _entry(kind, id, kept[id], identities, guardrails, secrets, made)
            for id in sorted(kept, key=lambda id: (identities[kind][id], id))
        ]
        if entries:
            collections[kind] = entries
    made.text = written({VERSION_FIELD: VERSION, **collections})
    made.counts = {kind: len(entries) for kind, entries in collections.items()}
    made.placeholders = sorted(secrets.values)
    if not made.blocking:
        made.blocking += _read_back(made.text, secrets.values)
    return made


def _values(rows: Iterable[KeyValue], prefix: str, made: Export) -> dict[str, dict[str, Any]]:
    """The typed resources by kind and id; what is wrong with the others."""
    values: dict[str, dict[str, Any]] = {}
    unknown: Counter[tuple[str, str]] = Counter()
    for row in rows:
        kind_name, _, id = row.key.removeprefix(prefix + "/").partition("/")
        kind = BY_NAME.get(kind_name)
        if not kind_name or not id:
            made.rejected.append(f"{row.key}: the key is not <prefix>/<kind>/<id>")
        elif kind is None or kind.external:
            made.rejected.append(f"{row.key}: no kind of resource has this name")
        elif isinstance(outcome := read(kind, row.value), Loaded):
            values.setdefault(kind_name, {})[id] = outcome.value
            unknown.update((kind_name, path) for path in outcome.unknown)
        else:
            made.rejected.append(f"{row.key}: {outcome.message}")
    made.notes += [
        f"{kind}: {count} row(s) with the unknown field `{path}`: left out"
        for (kind, path), count in sorted(unknown.items())
    ]
    return values


def _identities(kind: str, rows: Mapping[str, Any], made: Export) -> dict[str, str]:
    """What each row of a kind is called in the file, by id."""
    if kind == SINGLETON:
        names = dict.fromkeys(rows, SINGLETON)
    elif kind == "api_keys":
        names = _key_names(rows)
    else:
        names = {id: _name(kind, value) for id, value in rows.items()}
    for name, count in Counter(names.values()).items():
        if count > 1:
            ids = ", ".join(sorted(id for id, each in names.items() if each == name))
            made.blocking.append(f"{kind} ({quoted(name)}): {count} rows have this name: {ids}")
    return names


def _name(kind: str, value: Any) -> str:
    return next(str(getattr(value, field)) for field in identity_fields(kind) if hasattr(value, field))


def _key_names(rows: Mapping[str, Any]) -> dict[str, str]:
    """Caller keys go by their label where only one has it; else by the beginning of their hash, or of that of the
    reference in its place: many references begin alike."""
    labels = Counter(value.display_name for value in rows.values())
    return {
        id: value.display_name
        if value.display_name and labels[value.display_name] == 1
        else f"apikey-{(hash_key(value.key_hash) if is_reference(value.key_hash) else value.key_hash)[:16]}"
        for id, value in rows.items()
    }


def _entry(
    kind: str,
    id: str,
    value: Any,
    identities: Mapping[str, Mapping[str, str]],
    guardrails: Verdict,
    secrets: Placeholders,
    made: Export,
) -> Document:
    identity = identities[kind][id]
    found = Identities(identities)
    document = unsugared(kind, sealed(BY_NAME[kind], value), found)
    for at in found.dangling:
        message = f"{kind} ({quoted(identity)}): `{at}` names a row that is not there"
        # A cache policy of a key that is not there applies to nobody, before and after.
        (made.notes if kind == "cache_policies" else made.blocking).append(message)
    if kind == "api_keys":
        document = _listed(document, identity, found, made)
        document["display_name"] = identity
    if id in guardrails.off:
        document["enabled"] = False
    first = [field for field in identity_fields(kind) if field in document]
    ordered = {**{field: document[field] for field in first}, **document}
    tree: Document = secrets.tree(ordered, kind, identity)
    return tree


def _listed(document: Document, identity: str, found: Identities, made: Export) -> Document:
    """A caller key without the names in its lists that nothing has: they allow nothing."""
    document = dict(document)
    for listed, kind in _LISTS:
        names = document.get(listed)
        if names is None:
            continue
        document[listed] = [name for name in names if "*" in name or found.knows(kind, name)]
        if gone := len(names) - len(document[listed]):
            made.notes.append(f"api_keys ({quoted(identity)}): {gone} name(s) in `{listed}` that nothing has: left out")
    return document


def _opened(
    values: Mapping[str, Mapping[str, Any]], keyring: Keyring, made: Export, *, reveal: bool
) -> dict[str, dict[str, Any]]:
    """The resources with their secrets in clear; where a key is missing that would be needed, what to do.

    A text that stays sealed becomes a variable as every other, but of a sealed JSON value nobody knows the shape.
    """
    clear: dict[str, dict[str, Any]] = {}
    for kind_name, rows in values.items():
        kind = BY_NAME[kind_name]
        clear[kind_name] = {}
        for id, value in rows.items():
            try:
                clear[kind_name][id] = opened(kind, id, value, keyring)
            except CannotOpen as error:
                clear[kind_name][id] = value
                if reveal or _shapeless(value):
                    made.blocking.append(
                        f"{kind_name}/{id}: {error}: give --config with the configuration that has the key"
                    )
    return clear


def _shapeless(value: Any) -> bool:
    return any(isinstance(secret, SecretJson) and is_sealed(secret.stored or "") for _, secret in secrets_in(value))


def _read_back(text: str, environ: Mapping[str, str]) -> list[str]:
    try:
        load(text.encode(), "", environ)
    except FileRefused as error:
        return [str(problem) for problem in error.problems]
    return []
