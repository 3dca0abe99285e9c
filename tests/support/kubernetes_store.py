"""What the Kubernetes API server of the tests keeps: Secrets and Leases, their versions, and what happened to them.

Pure: no sockets, no clock of its own. It answers as the real server (1.36) was seen to: one counter of versions for
everything, conflicts by resourceVersion and uid, updates that change nothing make no version, `stringData` goes into
`data`. The HTTP side is kubernetes_api.py.
"""

import base64
import binascii
import copy
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Document = dict[str, Any]
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DATA_KEY: Final = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_MOST_DATA: Final = 1 << 20


class Failure(Exception):
    """A Status of the API: its HTTP code, its reason, and what it says."""

    def __init__(self, code: int, reason: str, message: str, **details: object) -> None:
        super().__init__(message)
        self.code, self.reason, self.details = code, reason, details


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind as URLs and documents name it."""

    plural: str
    kind: str
    group: str
    create_on_update: bool = False
    """Whether a PUT makes what is not there."""
    unconditional: bool = True
    """Whether a PUT may leave the resourceVersion out."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/v1" if self.group else "v1"


SECRETS: Final = Resource("secrets", "Secret", "")
LEASES: Final = Resource("leases", "Lease", "coordination.k8s.io", create_on_update=True, unconditional=False)


@dataclass(frozen=True, slots=True)
class Key:
    """Where an object lies."""

    resource: Resource
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Event:
    """One accepted write. `before` is what it changed or deleted; `by` the user; `at` seconds since 1970."""

    version: int
    type: str
    key: Key
    object: Document
    before: Document | None
    by: str
    at: float


class Store:
    """The objects of one cluster. `now`: seconds since 1970; `on_change` is called after each accepted write."""

    def __init__(self, now: Callable[[], float], on_change: Callable[[], None]) -> None:
        self.version = 1000
        self.compacted = 0
        """Watches from before this version are told that it is too old."""
        self.log: list[Event] = []
        self._objects: dict[Key, Document] = {}
        self._now = now
        self._on_change = on_change

    def get(self, key: Key) -> Document:
        """A copy of the object. Raises Failure 404."""
        return copy.deepcopy(self._found(key))

    def all(self, resource: Resource, namespace: str | None) -> list[Document]:
        """Copies of all in a namespace, or in all of them, by namespace and name."""
        found = [key for key in self._objects if key.resource == resource and namespace in (None, key.namespace)]
        return [copy.deepcopy(self._objects[key]) for key in sorted(found, key=lambda k: (k.namespace, k.name))]

    def since(self, version: int) -> list[Event]:
        """The writes after a version."""
        return [event for event in self.log if event.version > version]

    def create(self, resource: Resource, namespace: str, given: Document, by: str) -> Document:
        """Add an object. Raises Failure 409 AlreadyExists, 422, 400."""
        metadata = given.get("metadata") or {}
        name = metadata.get("name") or ""
        if not name and metadata.get("generateName"):
            name = f"{metadata['generateName']}{uuid.uuid4().hex[:5]}"
        key = Key(resource, namespace, name)
        _check_place(key, given)
        if not _NAME.fullmatch(name) or len(name) > 253:
            said = f'metadata.name: Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case'
            raise _invalid(key, f"{said} alphanumeric characters, '-' or '.'", "metadata.name")
        if metadata.get("resourceVersion"):
            raise Failure(400, "BadRequest", "resourceVersion should not be set on objects to be created")
        if key in self._objects:
            raise _failure(key, 409, "AlreadyExists", f'{resource.plural} "{name}" already exists')
        made = self._shaped(key, given)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._now()))
        made["metadata"] |= {"name": name, "uid": str(uuid.uuid4()), "creationTimestamp": stamp}
        return self._accept("ADDED", key, made, None, by)

    def replace(self, key: Key, given: Document, by: str) -> tuple[Document, bool]:
        """PUT: the object as it is now, and whether it was made. Raises Failure 404, 409 Conflict, 422, 400."""
        metadata = given.get("metadata") or {}
        _check_place(key, given)
        held = self._objects.get(key)
        if held is None:
            if not key.resource.create_on_update:
                self._found(key)
            if metadata.get("uid") or metadata.get("resourceVersion"):
                raise _conflict(key, "StorageError: invalid object, Code: 4: Precondition failed: UID in precondition")
            return self.create(key.resource, key.namespace, given, by), True
        if not metadata.get("resourceVersion") and not key.resource.unconditional:
            missing = "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"
            raise _invalid(key, missing, "metadata.resourceVersion")
        return self._change(key, held, given, by), False

    def patch(self, key: Key, change: Document, by: str) -> Document:
        """A merge patch (RFC 7396). Raises Failure 404, 409 Conflict, 422."""
        held = self._found(key)
        merged = _merged(copy.deepcopy(held), change)
        if "resourceVersion" not in (change.get("metadata") or {}):
            merged["metadata"]["resourceVersion"] = held["metadata"]["resourceVersion"]
        return self._change(key, held, merged, by)

    def delete(self, key: Key, preconditions: Mapping[str, str], by: str) -> Document:
        """Remove it; what it was. Raises Failure 404, 409 Conflict."""
        held = self._found(key)
        for field, spelt in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            wanted, there = preconditions.get(field), held["metadata"][field]
            if wanted is not None and wanted != there:
                said = f"Precondition failed: {spelt} in precondition: {wanted}, {spelt} in object meta: {there}"
                raise _conflict(key, said)
        del self._objects[key]
        self._accept("DELETED", key, copy.deepcopy(held), held, by)
        return held

    def compact(self) -> None:
        """Forget what happened until now: an older version cannot be watched from any more."""
        self.compacted = self.version

    def _found(self, key: Key) -> Document:
        if key not in self._objects:
            raise _failure(key, 404, "NotFound", f'{key.resource.plural} "{key.name}" not found')
        return self._objects[key]

    def _change(self, key: Key, held: Document, given: Document, by: str) -> Document:
        metadata, old = given.get("metadata") or {}, held["metadata"]
        if metadata.get("uid") not in (None, "", old["uid"]):
            raise _conflict(key, f"Precondition failed: UID in precondition: {metadata['uid']}")
        if metadata.get("resourceVersion") not in (None, "", old["resourceVersion"]):
            modified = "the object has been modified; please apply your changes to the latest version and try again"
            raise _conflict(key, modified)
        changed = self._shaped(key, given)
        if key.resource is SECRETS:
            _check_fixed(key, held, changed)
        changed["metadata"] |= {field: old[field] for field in ("uid", "creationTimestamp", "resourceVersion")}
        if _without_managed(changed) == _without_managed(held):
            return copy.deepcopy(held)
        return self._accept("MODIFIED", key, changed, held, by)

    def _shaped(self, key: Key, given: Document) -> Document:
        """The document as the server keeps it, before it has a version. Raises Failure 400, 422."""
        made = copy.deepcopy(given)
        made |= {"apiVersion": key.resource.api_version, "kind": key.resource.kind}
        fields = ("managedFields", "resourceVersion", "uid", "creationTimestamp", "selfLink")
        metadata = {field: value for field, value in (made.get("metadata") or {}).items() if field not in fields}
        made["metadata"] = {**metadata, "name": key.name, "namespace": key.namespace}
        if key.resource is SECRETS:
            _shape_secret(key, made)
        else:
            made.setdefault("spec", {})
        return made

    def _accept(self, kind: str, key: Key, document: Document, before: Document | None, by: str) -> Document:
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)
        if kind != "DELETED":
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._now()))
            manager = {"manager": "tests", "operation": "Update", "apiVersion": key.resource.api_version, "time": stamp}
            document["metadata"]["managedFields"] = [manager]
            self._objects[key] = document
        self.log.append(Event(self.version, kind, key, copy.deepcopy(document), before, by, self._now()))
        self._on_change()
        return copy.deepcopy(document)


def _shape_secret(key: Key, made: Document) -> None:
    data = dict(made.get("data") or {})
    for text in data.values():
        try:
            base64.b64decode(text, validate=True)
        except (binascii.Error, TypeError, ValueError):
            said = 'Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0'
            raise Failure(400, "BadRequest", said) from None
    for name, text in (made.pop("stringData", None) or {}).items():
        data[name] = base64.b64encode(text.encode()).decode("ascii")
    for name in data:
        if not _DATA_KEY.fullmatch(name):
            said = f'data[{name}]: Invalid value: "{name}": a valid config key must consist of alphanumeric characters'
            raise _invalid(key, f"{said}, '-', '_' or '.'", f"data[{name}]")
    if sum(len(base64.b64decode(text)) for text in data.values()) > _MOST_DATA:
        raise _invalid(key, f"data: Too long: may not be more than {_MOST_DATA} bytes", "data")
    made.setdefault("type", "Opaque")
    made.pop("data", None)
    if data:
        made["data"] = data


def _check_fixed(key: Key, held: Document, changed: Document) -> None:
    if changed["type"] != held["type"]:
        raise _invalid(key, f'type: Invalid value: "{changed["type"]}": field is immutable', "type")
    if held.get("immutable") and changed.get("data") != held.get("data"):
        raise _invalid(key, "data: Forbidden: field is immutable when `immutable` is set", "data")


def _check_place(key: Key, given: Document) -> None:
    metadata = given.get("metadata") or {}
    if metadata.get("namespace") not in (None, "", key.namespace):
        said = "the namespace of the provided object does not match the namespace sent on the request"
        raise Failure(400, "BadRequest", said)
    if metadata.get("name") not in (None, "", key.name):
        said = f"the name of the object ({metadata['name']}) does not match the name on the URL ({key.name})"
        raise Failure(400, "BadRequest", said)
    for field, wanted in (("kind", key.resource.kind), ("apiVersion", key.resource.api_version)):
        if given.get(field) not in (None, "", wanted):
            raise Failure(400, "BadRequest", f"the {field} of the provided object does not match: {given[field]}")


def _merged(target: Any, change: Any) -> Any:
    """RFC 7396."""
    if not isinstance(change, dict):
        return change
    result = target if isinstance(target, dict) else {}
    for name, value in change.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result


def _without_managed(document: Document) -> Document:
    metadata = {field: value for field, value in document["metadata"].items() if field != "managedFields"}
    return {**document, "metadata": metadata}


def _failure(key: Key, code: int, reason: str, message: str, causes: Iterable[Document] = ()) -> Failure:
    group = {"group": key.resource.group} if key.resource.group else {}
    named = {"name": key.name, **group, "kind": key.resource.plural}
    return Failure(code, reason, message, **named, **({"causes": list(causes)} if causes else {}))


def _conflict(key: Key, said: str) -> Failure:
    group = f".{key.resource.group}" if key.resource.group else ""
    message = f'Operation cannot be fulfilled on {key.resource.plural}{group} "{key.name}": {said}'
    return _failure(key, 409, "Conflict", message)


def _invalid(key: Key, said: str, field: str) -> Failure:
    group = f".{key.resource.group}" if key.resource.group else ""
    cause = {"reason": "FieldValueInvalid", "message": said, "field": field}
    return _failure(key, 422, "Invalid", f'{key.resource.kind}{group} "{key.name}" is invalid: {said}', [cause])
