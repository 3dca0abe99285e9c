"""POST .../secret_providers/{id}/test: whether the proxies reach a secret manager, and a secret in it if one is named.

What the secret holds is told to nobody: it does not leave the proxies.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web
from marshmallow import Schema, fields

from aisix_common.errors import Problem
from aisix_common.resources import SECRET_PROVIDERS, Rejected, read
from aisix_common.secrets.reference import BadReference, SecretReference, parse

from ..errors import Invalid, NoSuchPath, Undecodable
from ..probes import Outcome, proxies_of
from ..services import Services
from .description import describe, gives, takes
from .edge import REQUEST, WHO, Handler, answer
from .writing import optional_document


class ProviderTest(Schema):
    """What is to be tested besides the way to the manager."""

    path = fields.String(
        metadata={"description": "A secret to read, as it stands in references behind the provider. Never shown."}
    )


class ProviderTestAnswer(Schema):
    """What one proxy found."""

    instance = fields.String(required=True)
    hostname = fields.String(required=True)
    ok = fields.Boolean(required=True)
    reason = fields.String(metadata={"description": "Why not."})
    ms = fields.Integer(metadata={"description": "How long it took there; not of proxies that did not answer."})


class ProviderTested(Schema):
    """What the proxies say of a secret provider."""

    provider = fields.String(required=True, metadata={"description": "`<manager>/<name>`."})
    ok = fields.Boolean(required=True, metadata={"description": "Whether all say so, and there is one."})
    reason = fields.String(metadata={"description": "Why nobody was asked."})
    instances = fields.List(fields.Nested(ProviderTestAnswer), required=True)


def testing(services: Services) -> Handler:
    """The body is optional: `{"path": "a/b/key"}`."""

    async def handler(request: web.Request) -> web.StreamResponse:
        sent = await optional_document(request, services)
        row = await services.rows.get(SECRET_PROVIDERS.name, request.match_info["id"])
        loaded = read(SECRET_PROVIDERS, row.value)
        if isinstance(loaded, Rejected):
            raise Undecodable(SECRET_PROVIDERS.name, Problem("", loaded.message))
        return answer((await outcome(loaded.value.identity, sent, services, request)).shown())

    gives(handler, ProviderTested(), "What each proxy says. 200 also where it is not reached: `ok` tells.")
    takes(handler, ProviderTest(), required=False, example={"path": "team/openai/key"})
    errors = {
        400: "Not JSON, or the path cannot stand in a reference.",
        401: "No valid admin key.",
        403: "The admin key is a viewer's.",
        404: "There is no such resource.",
        408: "The body did not arrive in time.",
        409: "In file mode.",
        413: "The body is too large.",
        415: "The body is not declared as JSON, or is encoded.",
        500: "The row in etcd is no document of this kind.",
        503: "etcd is away.",
    }
    summary = "Ask every proxy whether it reaches a secret manager"
    return describe(handler, tag=SECRET_PROVIDERS.name, name="test_secret_providers", summary=summary, errors=errors)


async def outcome(identity: str, sent: Mapping[str, Any], services: Services, request: web.Request) -> Outcome:
    """Ask of the provider `identity` (`<manager>/<name>`) what the body `sent` wants. Raises Invalid, StoreAway."""
    path = path_of(identity, sent)
    if services.probes is None:  # file mode: the edge lets nobody here
        raise NoSuchPath
    found = await services.probes.ask(identity, path, proxies_of(services.fleet.live()))
    services.log.info(
        "secret provider tested",
        provider=identity,
        ok=found.ok,
        instances=len(found.answers),
        admin_key=request[WHO].name,
        request_id=request.get(REQUEST, ""),
    )
    return found


def path_of(identity: str, sent: Mapping[str, Any]) -> Sequence[str] | None:
    """The `path` of a body, in segments; None where there is none. Raises Invalid."""
    problems = [Problem(f"/{name}", "unknown field") for name in sent if name != "path"]
    path, segments = sent.get("path"), None
    if "path" in sent and not isinstance(path, str):
        problems.append(Problem("/path", "must be a string"))
    elif path is not None:
        try:
            reference = parse(f"$secret://{identity}/{path}")
            assert isinstance(reference, SecretReference)
            segments = reference.segments[1:]
        except BadReference as error:
            problems.append(Problem("/path", str(error)))
    if problems:
        raise Invalid.schema(problems)
    return segments
