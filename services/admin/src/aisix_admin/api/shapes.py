"""The shapes around the documents: entries, errors and the like, for OpenAPI. `schemas` has those of the documents."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from marshmallow import INCLUDE, RAISE, Schema, fields

from aisix_common.resources import ALL_KINDS, API_KEYS, Kind

from ..openapi import OneOf
from ..schemas import Text, schema_class


class Problem(Schema):
    """One thing wrong with a document."""

    path = fields.String(required=True, metadata={"description": "JSON pointer; empty for the document itself."})
    message = fields.String(required=True)


class Error(Schema):
    """Every answer that is not 2xx."""

    error_msg = fields.String(required=True, metadata={"description": "What is wrong; of several problems the first."})
    errors = fields.List(
        fields.Nested(Problem), required=True, metadata={"description": "Every problem that was found."}
    )


class Deleted(Schema):
    """The answer to DELETE."""

    deleted = fields.Boolean(required=True)
    id = fields.String(required=True)
    applied = fields.Nested(lambda: Applied())


class ModelHealth(Schema):
    """One model as the live proxies see it, the worst of them counting."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    health = fields.Integer(required=True, metadata={"description": "0 well, 1 failing, 2 failing for long."})


class ModelStatus(Schema):
    """One model as the live proxies see it, the worst of them counting. Virtual models have no status of their own."""

    id = fields.String(required=True)
    display_name = fields.String(required=True)
    kind = fields.String(required=True, metadata={"enum": ["direct", "routing", "ensemble", "semantic"]})
    status = fields.String(required=True, metadata={"enum": ["healthy", "unhealthy", "not_applicable"]})
    status_reason = fields.String()


class ConfigAge(Schema):
    """How fresh this service's view of etcd is."""

    snapshot_revision = fields.Integer(required=True)
    snapshot_age_seconds = fields.Integer(required=True, allow_none=True)


class Health(Schema):
    """The answer of /admin/v1/health."""

    status = fields.String(required=True, metadata={"enum": ["ok", "degraded", "unhealthy"]})
    models = fields.List(fields.Nested(ModelHealth), required=True)
    config = fields.Nested(ConfigAge, metadata={"description": "Not there where resources come from a file."})


_REVISION: Final = {"description": "etcd's mod_revision of the row."}
_NEXT: Final = {"description": "The `cursor` of the next page; null: there is none."}
_PLAINTEXT: Final = {"description": "The key itself where the gateway made it: shown this once, stored nowhere."}


@cache
def entry(kind: Kind[Any]) -> Schema:
    """A stored resource as it is answered."""
    return _entry(kind, f"{kind.type_name}Entry", {})


@cache
def created(kind: Kind[Any]) -> Schema:
    """A resource as it is answered when it was created."""
    if kind is not API_KEYS:
        return entry(kind)
    return _entry(kind, f"{kind.type_name}Created", {"plaintext": fields.String(metadata=_PLAINTEXT)})


@cache
def entries(kind: Kind[Any]) -> Schema:
    """All resources of a kind: a bare array."""
    return type(entry(kind))(many=True)


@cache
def listed(kind: Kind[Any]) -> Schema:
    """The answer to GET of a kind: `entries`, or a page where the query asks for one."""
    one = type(entry(kind))
    members: dict[str, Any] = {
        "items": fields.List(fields.Nested(one), required=True),
        "next_cursor": fields.String(required=True, allow_none=True, metadata=_NEXT),
    }
    page = Schema.from_dict(members, name=f"{kind.type_name}Page")()
    made: Schema = type(f"{kind.type_name}List", (OneOf,), {"choices": (entries(kind), page)})()
    return made


@cache
def written(kind: Kind[Any]) -> Schema:
    """A document as it is sent. Caller keys may come as the key itself, or be made here."""
    if kind is not API_KEYS:
        return schema_class(kind)()
    about = (
        "The key in clear instead of `key_hash`: hashed on arrival, never stored. Or a secret reference, which is "
        "stored in its place. A POST without both makes a key."
    )
    more = {"key": Text(metadata={"description": about, "format": "password"}), "key_hash": Text()}
    base: Any = schema_class(kind)
    made: Schema = type(f"{kind.type_name}Write", (base,), {**more, "Meta": type("Meta", (), {"unknown": RAISE})})()
    return made


def _entry(kind: Kind[Any], name: str, more: Mapping[str, Any]) -> Schema:
    members = {
        "id": fields.String(required=True),
        "value": fields.Nested(schema_class(kind), required=True),
        "revision": fields.Integer(required=True, metadata=_REVISION),
        "applied": fields.Nested(lambda: Applied()),
        **more,
    }
    return Schema.from_dict(members, name=name)()


class Applied(Schema):
    """How far a write has got to the proxies; only where `?wait=` asked for it."""

    instances = fields.Integer(required=True, metadata={"description": "Proxies that have applied the write."})
    of = fields.Integer(
        required=True, metadata={"description": "Proxies there are, those lost within ten minutes included."}
    )
    revision = fields.Integer(required=True)


class Patch(Schema):
    """A JSON merge patch (RFC 7396): null removes a field."""

    class Meta:
        unknown = INCLUDE


class Rotation(Schema):
    """The optional body of a rotation."""

    overlap_seconds = fields.Integer(
        metadata={"description": "How long the key before stays valid beside the new one.", "default": 0}
    )


class Step(Schema):
    """Which version to go back to."""

    version = fields.Integer(required=True)
    set = fields.Dict(
        metadata={"description": "A merge patch on that version: secrets that have to be given again, for example."}
    )


class Restoration(Schema):
    """Which version a deleted resource comes back as; none: the last."""

    version = fields.Integer()
    set = fields.Dict(metadata={"description": "A merge patch on that version: the secrets, which history never has."})


class OneVersion(Schema):
    """One version of a resource."""

    version = fields.Integer(required=True)
    revision = fields.Integer(required=True)
    at = fields.String(required=True, allow_none=True, metadata={"description": "null: written by others than us."})
    by = fields.String(required=True, allow_none=True, metadata={"description": "The name of the admin key."})
    action = fields.String(required=True)
    changed = fields.List(fields.String(), required=True, metadata={"description": "JSON pointers of changed fields."})
    value = fields.Dict(required=True, allow_none=True, metadata={"description": "null where it was deleted."})
    dropped = fields.Boolean(metadata={"description": "The document was too large to be kept."})


class Versions(Schema):
    """The versions of one resource."""

    kind = fields.String(required=True)
    id = fields.String(required=True)
    versions = fields.List(fields.Nested(OneVersion), required=True)


class FieldDifference(Schema):
    """One field that differs; a side without the field has no member."""

    class Meta:
        include = {"from": fields.Raw(allow_none=True)}  # noqa: RUF012 - marshmallow's way; `from` is no name in Python

    path = fields.String(required=True)
    to = fields.Raw(allow_none=True)


class Difference(Schema):
    """What differs between two versions."""

    class Meta:
        include = {  # noqa: RUF012 - marshmallow's way; `from` is no name in Python
            "from": fields.Integer(required=True),
        }

    to = fields.Integer(required=True)
    changes = fields.List(fields.Nested(FieldDifference), required=True)


class AuditChange(Schema):
    """What became of one resource."""

    kind = fields.String(required=True)
    id = fields.String(required=True)
    action = fields.String(required=True)
    label = fields.String()
    changed = fields.List(fields.String(), required=True, metadata={"description": "JSON pointers of changed fields."})


class AuditEntry(Schema):
    """One write."""

    class Meta:
        include = {"from": fields.String(required=True)}  # noqa: RUF012 - as above

    id = fields.String(required=True)
    revision = fields.Integer(required=True)
    at = fields.String(required=True)
    who = fields.String(required=True, metadata={"description": "The name of the admin key."})
    request_id = fields.String(required=True)
    forced = fields.Boolean()
    changes = fields.List(fields.Nested(AuditChange), required=True)


class Audit(Schema):
    """A page of the audit, newest first."""

    items = fields.List(fields.Nested(AuditEntry), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class SetMember(Schema):
    """One resource of a set. Without an id the row of the same name is meant, else a new one."""

    kind = fields.String(required=True, metadata={"enum": [kind.name for kind in ALL_KINDS]})
    id = fields.String()
    value = fields.Dict(required=True)


class Doomed(Schema):
    """One resource that is to be deleted."""

    kind = fields.String(required=True)
    id = fields.String(required=True)


class ResourceSet(Schema):
    """Resources that are written together."""

    resources = fields.List(fields.Nested(SetMember))
    delete = fields.List(fields.Nested(Doomed))


class Candidate(Schema):
    """One document (`kind` and `value`), or a set (`resources`, `delete`)."""

    kind = fields.String()
    id = fields.String()
    value = fields.Dict()
    resources = fields.List(fields.Nested(SetMember))
    delete = fields.List(fields.Nested(Doomed))


class Told(Schema):
    """What is done with one resource."""

    kind = fields.String(required=True)
    id = fields.String(required=True)
    action = fields.String(required=True)


class Validation(Schema):
    """The answer of a dry run."""

    valid = fields.Boolean(required=True)
    value = fields.Dict(metadata={"description": "Of one document: as it would be stored, secrets masked."})
    changes = fields.List(fields.Nested(Told), metadata={"description": "Of a set: what would be done."})
    errors = fields.List(fields.Nested(Problem))


class SetWritten(Schema):
    """The answer of an apply."""

    results = fields.List(fields.Nested(Told), required=True)
    revision = fields.Integer(required=True)
    applied = fields.Nested(Applied)


class Chat(Schema):
    """A chat request as the proxy takes it: what else it may hold is in the proxy's own description."""

    class Meta:
        unknown = INCLUDE

    model = fields.String(required=True)
    messages = fields.List(fields.Dict(), required=True)


@cache
def rotated() -> Schema:
    """The answer of a rotation."""
    members = {
        "entry": fields.Nested(type(entry(API_KEYS)), required=True),
        "plaintext": fields.String(required=True, metadata=_PLAINTEXT),
        "applied": fields.Nested(Applied),
    }
    return Schema.from_dict(members, name="ApiKeyRotated")()


def _parameter(name: str, about: str, kind: str = "string", **more: Any) -> Mapping[str, Any]:
    return {"in": "query", "name": name, "required": False, "description": about, "schema": {"type": kind, **more}}


LIST_QUERY: Final = (
    _parameter("limit", "Resources of a page.", "integer", minimum=1, maximum=1000),
    _parameter("cursor", "The `next_cursor` of the page before."),
    _parameter("name", "A name, or a pattern with one `*`."),
    _parameter("sort", "The order.", enum=["id", "name", "-name"]),
)
"""With any of these a list answers `{"items": [...], "next_cursor": ...}`."""
_WAIT: Final = _parameter("wait", "Wait until the proxies have applied the write, `5s` or `500ms`; 30 s at most.")
_FORCE: Final = _parameter("force", "Also when others refer to what goes away.", "boolean")
WRITE_QUERY: Final = (_WAIT, _FORCE)
DELETE_QUERY: Final = (_WAIT, _FORCE, _parameter("purge", "Erase the history of the resource, too.", "boolean"))
DIFF_QUERY: Final = (
    {**_parameter("from", "The number of a version.", "integer"), "required": True},
    {**_parameter("to", "The number of a version.", "integer"), "required": True},
)
AUDIT_QUERY: Final = (
    _parameter("kind", "Only changes of this kind."),
    _parameter("id", "Only changes of the resource with this id."),
    _parameter("who", "Only what was done with the admin key of this name."),
    _parameter(
        "action", "Only this action: created, replaced, patched, deleted, purged, rotated, rolled_back, restored."
    ),
    _parameter("since", "RFC 3339."),
    _parameter("until", "RFC 3339."),
    _parameter("limit", "Entries of a page.", "integer", minimum=1, maximum=1000),
    _parameter("cursor", "The `next_cursor` of the page before."),
)
EXPORT_QUERY: Final = (_parameter("kind", "Only this kind; may be given several times."),)
