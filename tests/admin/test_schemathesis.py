"""The API against its description, by schemathesis: what is described is what is answered.

Every operation is asked once for what it is there for, over a socket, and must do it. Then each gets documents, queries
and ids that the description allows, and some that it does not. No answer is a 5xx (but that of a playground that is not
wired), none has a status, a type or a shape that is not described.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec import json
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.core.transport import Response
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from aisix_common.resources import BY_NAME

from tests.support.admin import RunningAdmin
from tests.support.documents import SET, Sample

Operation: TypeAlias = APIOperation[Any, Any, Any, Any]
Case: TypeAlias = schemathesis.Case[Any]

THOROUGHLY: Final = frozenset({"api_keys", "guardrails"})
"""Kinds share their handlers: these get many examples, as do calls that are of no kind, and the others a few."""
MANY: Final[Mapping[GenerationMode, int]] = {GenerationMode.POSITIVE: 6, GenerationMode.NEGATIVE: 3}
FEW: Final[Mapping[GenerationMode, int]] = {GenerationMode.POSITIVE: 1, GenerationMode.NEGATIVE: 1}
PLAYGROUND: Final = "POST /playground/chat/completions"
CHECKS: Final = (status_code_conformance, content_type_conformance, response_schema_conformance)
EVERY: Final = (
    *SET,
    Sample(
        "secret_providers",
        {"manager": "vault", "name": "main", "uri": "http://127.0.0.1:1", "auth": {"method": "token", "token": "t"}},
        {"kv_version": "v1"},
    ),
)
NEW: Final = {"key_hash": "5" * 64}
"""What a second row of a kind has in place of its unique field; for all others the field's own name."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One sensible request, and whether `id` is that of the last row that was made, not of the sample."""

    label: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    made: bool = False


def of_kind(sample: Sample) -> Iterator[Ask]:
    """The life of a resource, by every call there is for its kind."""
    kind, document = f"/admin/v1/{sample.kind}", dict(sample.document)
    one = kind + "/{id}"
    yield Ask(f"GET {kind}")
    yield Ask(f"GET {kind}", {"limit": 1, "sort": "-name"})
    yield Ask(f"GET {one}")
    yield Ask(f"PUT {one}", {"wait": "0s"}, {**document, **sample.changed})
    yield Ask(f"PATCH {one}", {}, dict(sample.changed))
    yield Ask(f"GET {one}/history")
    yield Ask(f"GET {one}/history/diff", {"from": 1, "to": 2})
    yield Ask(f"POST {one}/rollback", {}, {"version": 1})
    if sample.kind == "api_keys":
        yield Ask(f"POST {one}/rotate", {}, {"overlap_seconds": 60})
    if sample.kind == "secret_providers":
        yield Ask(f"POST {one}/test", {}, {"path": "team/openai/key"})
    yield Ask(f"DELETE {one}", {"force": True, "wait": "0s"})
    other = {sample.name: NEW.get(sample.name, sample.name)} if sample.name else {}
    yield Ask(f"POST {kind}", {}, {**document, **other})
    yield Ask(f"DELETE {one}", {"purge": True}, made=True)
    yield Ask(f"POST {one}/restore", {}, {"set": document})


def of_no_kind() -> Iterator[Ask]:
    """All other calls."""
    members = [sample.member for sample in EVERY]
    yield Ask("GET /admin/v1/models/status")
    yield Ask("GET /admin/v1/health")
    yield Ask("GET /admin/v1/instances")
    yield Ask("GET /admin/v1/audit", {"limit": 50, "action": "patched"})
    yield Ask("GET /admin/v1/export", {"kind": "models"})
    yield Ask("POST /admin/v1/validate", {}, {"kind": "models", "value": {}})
    yield Ask("POST /admin/v1/validate", {}, {"resources": members})
    yield Ask("POST /admin/v1/apply", {"wait": "0s"}, {"resources": members})


class Described:
    """The description that `admin` gives of itself, and how to ask it for what stands there."""

    def __init__(self, description: dict[str, Any], admin: RunningAdmin) -> None:
        schema = schemathesis.openapi.from_dict(description)
        self.operations: dict[str, Operation] = {}
        for result in schema.get_all_operations():
            assert isinstance(result, Ok)
            operation = result.ok()
            self.operations[operation.label] = operation
        self._url = admin.url
        self._headers = {"Authorization": f"Bearer {admin.key}"}
        self._session = requests.Session()

    def send(self, case: Case) -> Response:
        """The answer, which is as described. Blocks."""
        response = case.call(self._url, self._session, headers=self._headers, timeout=20)
        if case.operation.label == PLAYGROUND:
            assert response.status_code == 501
            case.validate_response(response, checks=list(CHECKS))
        else:
            case.validate_response(response, checks=[*CHECKS, not_a_server_error])
        return response

    def ask(self, ask: Ask, id: str) -> Any:
        """The decoded answer to a sensible request, which is 200. Blocks."""
        operation = self.operations[ask.label]
        more = {"body": ask.body, "media_type": "application/json"} if ask.body is not None else {}
        path = {"id": id} if "{id}" in operation.path else {}
        answer = self.send(operation.Case(path_parameters=path, query=dict(ask.query), **more))
        assert answer.status_code == 200, (ask, answer.content)
        return json.decode(answer.content)

    def ask_anything(self, operation: Operation) -> None:
        """Examples of all sorts. Blocks."""
        kind = kind_of(operation)
        for mode, count in (FEW if kind and kind not in THOROUGHLY else MANY).items():

            @settings(
                max_examples=count,
                derandomize=True,
                database=None,
                deadline=None,
                phases=[Phase.generate],  # the server remembers: what failed once need not fail again while shrinking
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(mode), known=st.sampled_from([True, True, True, False]))
            def one(case: Case, known: bool) -> None:
                if known and "id" in case.path_parameters:
                    case.path_parameters["id"] = f"{kind}-1"  # an answer of 404 says little about a shape
                self.send(case)

            one()


def kind_of(operation: Operation) -> str:
    """The kind that a path is about; empty: none."""
    part = operation.path.removeprefix("/admin/v1/").partition("/")[0]
    return part if part in BY_NAME and not operation.path.endswith("/status") else ""


@pytest.fixture
async def described(admin: RunningAdmin) -> Described:
    """The admin with one resource of every kind, with the id `<kind>-1`."""
    assert (await admin.call("POST", "/apply", {"resources": [sample.member for sample in EVERY]}))[0] == 200
    return Described((await admin.send("GET", "/admin/openapi.json", headers={})).json, admin)


@pytest.mark.timeout(180)
async def test_every_operation_does_what_it_is_there_for(described: Described) -> None:
    asked = set()
    for sample in EVERY:
        made = ""
        for ask in of_kind(sample):
            asked.add(ask.label)
            answer = await asyncio.to_thread(described.ask, ask, made if ask.made else f"{sample.kind}-1")
            if ask.label.startswith("POST") and "{" not in ask.label:
                made = answer["id"]
    for ask in of_no_kind():
        asked.add(ask.label)
        await asyncio.to_thread(described.ask, ask, "")
    assert set(described.operations) - asked == {PLAYGROUND}


@pytest.mark.slow  # half a minute on a free machine
@pytest.mark.timeout(240)
async def test_whatever_is_asked_the_answer_is_described(admin: RunningAdmin, described: Described) -> None:
    wrong: list[str] = []
    for label, operation in described.operations.items():
        for sample in EVERY:  # what the operation before may have changed
            root = ("/ext" if BY_NAME[sample.kind].external else "") + admin.prefix
            await admin.etcd.put(f"{root}/{sample.kind}/{sample.kind}-1", json.encode(sample.document))
        if operation.path.endswith("/restore"):
            await admin.send("DELETE", operation.path.removeprefix("/admin/v1").replace("restore", "?force=true"))
        try:
            await asyncio.to_thread(described.ask_anything, operation)
        except* AssertionError as failures:
            wrong += [f"{label}: {failure}" for failure in failures.exceptions]
    assert not wrong, "\n\n".join(wrong)
