"""Many resources in one body: which are meant, and every problem at its place."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from aisix_admin.auth import AdminKeys
from aisix_admin.decisions import Decisions
from aisix_admin.errors import Busy, Conflict, Invalid
from aisix_admin.index import Place, ResourceIndex
from aisix_admin.planning import View
from aisix_admin.references import References
from aisix_admin.sealing import Sealing
from aisix_admin.sets import LONGEST_ID, Member, edits_of, placed, read_set
from aisix_admin.store import Dangling
from aisix_common.resources import ALL_KINDS, MODELS, PROVIDER_KEYS, Flaw, check, hash_key
from aisix_common.resources import document as to_json
from aisix_common.secret import Secret
from aisix_common.secrets import rows
from aisix_common.secrets.envelope import Keyring
from aisix_common.secrets.environment import EnvPolicy
from aisix_common.store.types import KeyValue, Listing

REFERENCES = References(lambda manager: ["main"] if manager == "vault" else [], EnvPolicy([], []))
DECIDE = Decisions(AdminKeys([Secret("admin")]), REFERENCES)
KEYRING = Keyring([("k1", bytes(32))])
SEALING = Sealing(lambda: KEYRING, allow_plaintext=False)
MODEL = {"display_name": "gpt", "provider": "openai", "model_name": "m", "provider_key_id": "k"}
PROVIDER = {"display_name": "p", "api_key": "canary-1"}
HASH = hash_key("sk-1")


def index(stored: Mapping[Place, Any]) -> ResourceIndex:
    there = (KeyValue(f"/aisix/{kind}/{id}", json.dumps(value).encode(), 5, 5) for (kind, id), value in stored.items())
    made = ResourceIndex("/aisix", ALL_KINDS)
    made.apply(Listing(tuple(there), 9))
    return made


def members(body: Mapping[str, Any], stored: Mapping[Place, Any] | None = None) -> list[Member]:
    numbers = itertools.count(1)
    return read_set(body, index(stored or {}), lambda: f"new-{next(numbers)}", REFERENCES.text)


def problems(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as refused:
        members(body)
    assert "canary" not in refused.value.message + repr(refused.value.problems)
    return [(problem.path, problem.reason) for problem in refused.value.problems]


def view(found: Sequence[Member], stored: Mapping[Place, Any]) -> View:
    found_rows = {
        member.place: KeyValue("", raw if isinstance(raw, bytes) else json.dumps(raw).encode(), 5, 5)
        if (raw := stored.get(member.place)) is not None
        else None
        for member in found
    }
    return View(found_rows, dict.fromkeys(found_rows))


def test_members_with_an_id_without_and_deletions() -> None:
    body = {
        "resources": [
            {"kind": "models", "id": "m-1", "value": MODEL},
            {"kind": "provider_keys", "value": PROVIDER},
        ],
        "delete": [{"kind": "models", "id": "old"}],
    }
    assert [(each.at, each.place, each.value) for each in members(body)] == [
        ("/resources/0", ("models", "m-1"), MODEL),
        ("/resources/1", ("provider_keys", "new-1"), PROVIDER),
        ("/delete/0", ("models", "old"), None),
    ]
    assert members({"resources": []}) == members({"delete": []}) == []


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        ("models", MODEL, MODEL),
        ("provider_keys", PROVIDER, {"display_name": "p"}),
        ("mcp_servers", {"name": "s"}, {"name": "s"}),
        ("mcp_servers", {"display_name": "s"}, {"name": "s"}),
        ("mcp_servers", {"name": "s"}, {"display_name": "s"}),
        ("api_keys", {"key_hash": HASH}, {"key_hash": HASH}),
        ("api_keys", {"key": " sk-1\n"}, {"key_hash": HASH}),
        ("mcp_auth_settings", {}, {}),
    ],
)
def test_without_an_id_the_row_of_the_same_name_is_meant(kind: str, value: Any, stored: Any) -> None:
    body = {"resources": [{"kind": kind, "value": value}]}
    assert [each.id for each in members(body, {(kind, "7"): stored})] == ["7"]
    assert [each.id for each in members(body, {(kind, "7"): stored, (kind, "6"): stored})] == ["6"]
    assert [each.id for each in members(body)] == ["new-1"]


@pytest.mark.parametrize("value", [{}, {"display_name": 5}, {"display_name": None}, {"display_name": ["p"]}])
def test_what_has_no_name_is_new(value: Any) -> None:
    body = {"resources": [{"kind": "provider_keys", "value": value}]}
    assert [each.id for each in members(body, {("provider_keys", "7"): PROVIDER})] == ["new-1"]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({}, [("/resources", "required field is missing")]),
        ({"resource": []}, [("/resource", "unknown field"), ("/resources", "required field is missing")]),
        ({"resources": {}}, [("/resources", "must be an array")]),
        ({"resources": None, "delete": 5}, [("/resources", "must be an array"), ("/delete", "must be an array")]),
        ({"resources": ["canary"]}, [("/resources/0", "must be an object")]),
        ({"delete": [{"kind": "models"}]}, [("/delete/0/id", "required field is missing")]),
        ({"delete": [{"kind": "models", "id": "1", "value": {}}]}, [("/delete/0/value", "unknown field")]),
        ({"resources": [{"kind": "models", "id": "1"}]}, [("/resources/0/value", "must be an object")]),
        ({"resources": [{"kind": "models", "value": ["canary"]}]}, [("/resources/0/value", "must be an object")]),
    ],
)
def test_what_is_no_set(body: Any, found: list[tuple[str, str]]) -> None:
    assert problems(body) == found


def test_all_problems_are_told_at_once() -> None:
    body = {
        "resources": [{"kind": "canary", "value": {}, "new": 1}, {"kind": ["models"], "value": 5}],
        "delete": [{"kind": "models", "id": ""}],
    }
    assert [path for path, _ in problems(body)] == [
        "/resources/0/new",
        "/resources/0/kind",
        "/resources/1/kind",
        "/resources/1/value",
        "/delete/0/id",
    ]


@pytest.mark.parametrize(
    "id", ["", 5, None, "canary\n", "canary\x00", "\ud800", "x" * (LONGEST_ID + 1), "a/b", ".", "..", "status"]
)
def test_ids_are_short_and_printable(id: object) -> None:
    assert [path for path, _ in problems({"resources": [{"kind": "models", "id": id, "value": {}}]})] == [
        "/resources/0/id"
    ]


def test_one_resource_is_meant_once() -> None:
    one = {"kind": "models", "id": "1", "value": MODEL}
    assert [path for path, _ in problems({"resources": [one, one], "delete": [{"kind": "models", "id": "1"}]})] == [
        "/resources/1",
        "/delete/0",
    ]
    other = {"kind": "provider_keys", "id": "1", "value": PROVIDER}
    assert len(members({"resources": [one, other]})) == 2


def test_what_is_so_already_is_left_alone() -> None:
    stored: dict[Place, Any] = {
        ("models", "1"): dict(reversed(MODEL.items())) | {"new": 1},
        ("provider_keys", "2"): {**PROVIDER, "provider": "", "telemetry_tags": {"featured": False}},
        ("models", "3"): MODEL,
        ("models", "5"): b"not json",
    }
    found = members(
        {
            "resources": [
                {"kind": "models", "id": "1", "value": MODEL},
                {"kind": "provider_keys", "id": "2", "value": {**PROVIDER, "api_key": "***"}},
                {"kind": "models", "id": "4", "value": {**MODEL, "display_name": "other"}},
                {"kind": "models", "id": "5", "value": {**MODEL, "display_name": "five"}},
            ],
            "delete": [{"kind": "models", "id": "3"}],
        }
    )
    edits = edits_of(found, view(found, stored), DECIDE, SEALING.clear)
    assert [(edit.id, edit.action) for edit in edits] == [
        ("2", "replaced"),  # its defaults were not written out
        ("4", "created"),
        ("5", "replaced"),
        ("3", "deleted"),
    ]
    after = {edit.place: edit.stored for edit in edits}
    assert [edit.id for edit in edits_of(found[1:2], view(found[1:2], after), DECIDE, SEALING.clear)] == []


def test_problems_of_all_members_stand_at_their_places() -> None:
    found = members(
        {
            "resources": [
                {"kind": "models", "id": "1", "value": {**MODEL, "timeout": "canary"}},
                {"kind": "provider_keys", "id": "2", "value": {**PROVIDER, "api_key": "***"}},
                {"kind": "provider_keys", "id": "3", "value": {**PROVIDER, "secret": "canary-2"}},
                {"kind": "api_keys", "id": "4", "value": {"allowed_models": []}},
            ],
            "delete": [{"kind": "models", "id": "9"}],
        }
    )
    with pytest.raises(Invalid) as refused:
        edits_of(found, view(found, {("models", "1"): MODEL}), DECIDE, SEALING.clear)
    assert "canary" not in refused.value.message + repr(refused.value.problems)
    assert [problem.path for problem in refused.value.problems] == [
        "/resources/0/value/timeout",
        "/resources/1/value/api_key",
        "/resources/2/value/api_key",
        "/resources/3/value/key_hash",
        "/delete/0/id",
    ]


def test_errors_of_the_write_get_the_places_of_the_body() -> None:
    found = members(
        {
            "resources": [
                {"kind": "provider_keys", "id": "1", "value": PROVIDER},
                {"kind": "models", "id": "1", "value": MODEL},
            ]
        }
    )
    model = edits_of(found, view(found, {}), DECIDE, SEALING.clear)[1]
    dangling = placed(Dangling([(model, Flaw(("provider_key_id",), "leads nowhere"))]), found)
    assert isinstance(dangling, Invalid)
    assert [problem.path for problem in dangling.problems] == ["/resources/1/value/provider_key_id"]
    conflict = placed(Conflict(MODELS.name, "gpt", "1"), found)
    assert isinstance(conflict, Conflict) and [each.path for each in conflict.problems] == ["/resources/1"]
    other = placed(Conflict(PROVIDER_KEYS.name, "p", "1"), found)
    assert isinstance(other, Conflict) and [each.path for each in other.problems] == ["/resources/0"]
    busy = Busy()
    assert placed(busy, found) is busy


# secrets

VAULT = {"manager": "vault", "name": "main", "uri": "https://v.example", "auth": {"method": "kubernetes", "role": "r"}}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("secret_providers", VAULT),
        ("api_keys", {"key": " $SECRET://vault/a/key", "allowed_models": []}),
        ("api_keys", {"key_hash": "$secret://vault/a/key", "allowed_models": []}),
        ("api_keys", {"key_hash": "$secret://vault/main/a/key", "allowed_models": []}),
    ],
)
def test_the_row_that_is_meant_is_found_however_its_name_is_spelt(kind: str, value: dict[str, Any]) -> None:
    stored = {
        ("secret_providers", "v"): VAULT,
        ("api_keys", "v"): {"key_hash": "$secret://vault/main/a/key", "allowed_models": []},
    }
    (member,) = members({"resources": [{"kind": kind, "value": value}]}, stored)
    assert member.place == (kind, "v")
    (member,) = members({"resources": [{"kind": kind, "value": value}]})
    assert member.id == "new-1"


def sealed(document: dict[str, Any], keyring: Keyring = KEYRING) -> bytes:
    value = check(PROVIDER_KEYS, document)
    return json.dumps(rows.sealed(PROVIDER_KEYS, "k", to_json(PROVIDER_KEYS, value), value, keyring).document).encode()


@pytest.mark.parametrize(
    ("sent", "edits"),
    [
        (PROVIDER, 0),
        ({**PROVIDER, "api_key": "***"}, 0),
        ({**PROVIDER, "api_key": "canary-2"}, 1),
        ({**PROVIDER, "provider": "openai"}, 1),
    ],
)
def test_a_secret_that_lies_there_encrypted_is_not_written_again(sent: dict[str, Any], edits: int) -> None:
    found = members({"resources": [{"kind": "provider_keys", "id": "k", "value": sent}]})
    for raw, more in ((sealed(PROVIDER), 0), (sealed(PROVIDER, Keyring([("other", bytes(32))])), sent == PROVIDER)):
        made = edits_of(found, view(found, {found[0].place: raw}), DECIDE, SEALING.clear)
        assert len(made) == edits + more, "without its key nobody can tell whether it is the same"


def test_providers_count_that_come_in_the_same_set_and_those_that_go_do_not() -> None:
    key = {"kind": "provider_keys", "id": "k", "value": {**PROVIDER, "api_key": "$secret://aws/second/x"}}
    aws = {"kind": "secret_providers", "id": "a", "value": {"manager": "aws", "name": "second"}}
    found = members({"resources": [key, aws]})
    assert len(edits_of(found, view(found, {}), DECIDE, SEALING.clear)) == 2
    renamed = {("secret_providers", "a"): {"manager": "aws", "name": "second"}}
    aws["value"] = {"manager": "gcp", "name": "second", "project_id": "p"}
    for body in ({"resources": [key, aws]}, {"resources": [key], "delete": [{"kind": "secret_providers", "id": "a"}]}):
        found = members(body)
        with pytest.raises(Invalid) as refused:
            edits_of(found, view(found, renamed), DECIDE, SEALING.clear)
        assert [problem.path for problem in refused.value.problems] == ["/resources/0/value/api_key"]
