"""The OpenAPI 3.1 document of the admin API, made by aiohttp-apispec from the decorated handlers.

The library (3.0.0b2, the newest there is) writes Swagger 2.0 only; the subclass here gives it a 3.1 spec and translates
what it collected from the decorators. It registers nothing on the application and serves no page of its own.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiohttp import web
from aiohttp_apispec import AiohttpApiSpec
from aiohttp_apispec.aiohttp_apispec import resolver
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema

from aisix_common.version import VERSION

from .schemas import AnyOf, Tagged

TITLE: Final = "AISIX Admin API"
_METHODS: Final = frozenset({"get", "post", "put", "patch", "delete"})
_ABOUT: Final = (
    "Every resource of the gateway. Changes are used by every proxy as soon as etcd has them. "
    "Secrets are shown as `***`; written back as `***` they are kept."
)


class OneOf(Schema):
    """An answer that has one of several shapes. Only described: nothing is validated by it. Subclasses say which."""

    choices: tuple[Schema, ...] = ()


def describe(routes: Iterable[web.AbstractRoute]) -> dict[str, Any]:
    """The document for those of `routes` that are decorated. Takes a good part of a second: for a thread."""
    return _ApiSpec31().describe(routes)


class _ApiSpec31(AiohttpApiSpec):  # type: ignore[misc] # the library has no types
    def __init__(self) -> None:
        super().__init__(url=None, title=TITLE, version=VERSION)
        self.plugin = _Plugin(schema_name_resolver=resolver)
        self.spec = APISpec(
            title=TITLE,
            version=VERSION,
            openapi_version="3.1.0",
            plugins=(self.plugin,),
            info={"description": _ABOUT, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        )
        assert self.plugin.converter is not None  # made with the spec
        self.plugin.converter.add_attribute_function(_choices)  # type: ignore[no-untyped-call]
        self.spec.components.security_scheme("AdminBearer", {"type": "http", "scheme": "bearer"})
        self.spec.components.security_scheme("AdminKey", {"type": "apiKey", "in": "header", "name": "x-api-key"})
        self.spec.components.security_scheme("ProxyBearer", {"type": "http", "scheme": "bearer"})

    def describe(self, routes: Iterable[web.AbstractRoute]) -> dict[str, Any]:
        for route in routes:
            self._register_route(route, route.method.lower(), route.handler)
        document: dict[str, Any] = self.swagger_dict()
        return document

    def _update_paths(self, data: Mapping[str, Any], method: str, url_path: str) -> None:
        if method not in _METHODS:
            return
        operation: dict[str, Any] = {
            name: data[name] for name in ("tags", "summary", "description", "operationId", "security") if name in data
        }
        path_keys = [part[1:-1] for part in url_path.split("/") if part.startswith("{")]
        operation["parameters"] = [
            *data.get("parameters", ()),
            *({"in": "path", "name": key, "required": True, "schema": {"type": "string"}} for key in path_keys),
        ]
        for schema in data.get("schemas", ()):
            needed = schema["options"].get("required", True)
            operation["requestBody"] = {"required": needed, "content": _json(schema["schema"], schema["example"])}
        operation["responses"] = {
            code: {
                "description": answer.get("description") or "",
                **({"content": _json(answer["schema"], answer.get("example"))} if "schema" in answer else {}),
            }
            for code, answer in sorted(data["responses"].items())
        }
        self.spec.path(path=url_path, operations={method: operation})


class _Converter(OpenAPIConverter):
    def schema2jsonschema(self, schema: Any) -> dict[str, Any]:
        """Of a Tagged schema its branches, of a OneOf its choices, of any other what the library makes."""
        if isinstance(schema, OneOf):
            return {"oneOf": [self.resolve_nested_schema(choice) for choice in schema.choices]}  # type: ignore[no-untyped-call]  # apispec's
        if not isinstance(schema, Tagged):
            return super().schema2jsonschema(schema)  # type: ignore[no-any-return, no-untyped-call]
        branches = {tag: self.resolve_nested_schema(branch) for tag, branch in schema.branches.items()}  # type: ignore[no-untyped-call]
        mapping = {tag: branch["$ref"] for tag, branch in branches.items()}
        return {"oneOf": list(branches.values()), "discriminator": {"propertyName": schema.tag, "mapping": mapping}}


class _Plugin(MarshmallowPlugin):
    Converter = _Converter


def _choices(converter: Any, field: Any, **_: Any) -> dict[str, Any]:
    """An attribute function of apispec's converter, which binds it to itself."""
    if not isinstance(field, AnyOf):
        return {}
    return {"anyOf": [converter.field2property(choice) for choice in field.choices]}


def _json(schema: Any, example: Any = None) -> dict[str, Any]:
    if isinstance(example, dict):  # the library notes what it does with examples among their members
        example = {name: item for name, item in example.items() if name != "add_to_refs"}
    return {"application/json": {"schema": schema, **({"example": example} if example else {})}}
