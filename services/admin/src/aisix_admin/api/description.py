"""aiohttp-apispec's decorators with types, so that a handler stays what it was to the type checker."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiohttp_apispec import docs, json_schema, response_schema
from marshmallow import Schema

from ..examples import PROBLEM
from .edge import Handler
from .shapes import Error

_ADMIN: Final[list[dict[str, list[str]]]] = [{"AdminBearer": []}, {"AdminKey": []}]
_ERROR: Final = Error()
"""One for all: making a schema takes longer than everything else that is done to describe a call."""
_CALLER: Final[list[dict[str, list[str]]]] = [{"ProxyBearer": []}]


def describe(
    handler: Handler,
    *,
    tag: str,
    name: str,
    summary: str,
    errors: Mapping[int, str],
    query: Sequence[Mapping[str, Any]] = (),
    admin: bool = True,
) -> Handler:
    """Note on `handler` what it is. `errors` says when which status is answered, always with the error envelope.

    `query` are parameters as OpenAPI has them; `admin` is whether an admin key is needed.
    """
    responses = {
        str(code): {"schema": _ERROR, "description": text, **({"example": PROBLEM} if code == 400 else {})}
        for code, text in errors.items()
    }
    described: Handler = docs(
        tags=[tag],
        summary=summary,
        operationId=name,
        security=_ADMIN if admin else _CALLER,
        responses=responses,
        parameters=[dict(each) for each in query],
    )(handler)
    return described


def takes(
    handler: Handler, schema: Schema, *, required: bool = True, example: Mapping[str, Any] | None = None
) -> Handler:
    """Note that `handler` takes a JSON body of `schema`."""
    given = dict(example) if example is not None else None
    described: Handler = json_schema(schema, required=required, example=given)(handler)
    return described


def gives(handler: Handler, schema: Schema, text: str, *, example: object = None) -> Handler:
    """Note that `handler` answers 200 with `schema`."""
    described: Handler = response_schema(schema, 200, description=text)(handler)
    if example is not None:
        described.__apispec__["responses"]["200"]["example"] = example  # type: ignore[attr-defined]
    return described


def passes(handler: Handler, text: str) -> Handler:
    """Note that `handler` passes on what somebody else answers, whatever the status."""
    described: Handler = docs(responses={"default": {"description": text}})(handler)
    return described
