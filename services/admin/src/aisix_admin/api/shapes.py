"""The shapes around the documents: entries, errors and the like, for OpenAPI. `schemas` has those of the documents."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from marshmallow import RAISE, Schema, fields

from aisix_common.resources import API_KEYS, Kind

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


class ConfigAge(Schema):
    """How fresh this service's view of etcd is."""

    snapshot_revision = fields.Integer(required=True)
    snapshot_age_seconds = fields.Integer(required=True, allow_none=True)


class Health(Schema):
    """The answer of /admin/v1/health."""

    status = fields.String(required=True, metadata={"enum": ["ok", "degraded", "unhealthy"]})
    models = fields.List(fields.Nested(ModelHealth), required=True)
    config = fields.Nested(ConfigAge, required=True)


_REVISION: Final = {"description": "etcd's mod_revision of the row."}
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
def written(kind: Kind[Any]) -> Schema:
    """A document as it is sent. Caller keys may come as the key itself, or be made here."""
    if kind is not API_KEYS:
        return schema_class(kind)()
    about = "The key in clear instead of `key_hash`: hashed on arrival, never stored. A POST without both makes a key."
    more = {"key": Text(metadata={"description": about, "format": "password"}), "key_hash": Text()}
    base: Any = schema_class(kind)
    made: Schema = type(f"{kind.type_name}Write", (base,), {**more, "Meta": type("Meta", (), {"unknown": RAISE})})()
    return made


def _entry(kind: Kind[Any], name: str, more: Mapping[str, Any]) -> Schema:
    members = {
        "id": fields.String(required=True),
        "value": fields.Nested(schema_class(kind), required=True),
        "revision": fields.Integer(required=True, metadata=_REVISION),
        **more,
    }
    return Schema.from_dict(members, name=name)()
