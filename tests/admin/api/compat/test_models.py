"""Models in the older dialect, without HTTP; over a socket they are in test_calls.py."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from aisix_admin.api.compat.envelope import Misshapen, Missing
from aisix_admin.api.compat.models import VENDORS, Models, key_id
from aisix_admin.api.compat.translation import Asked
from aisix_admin.auth import AdminKeys
from aisix_admin.decisions import Decisions
from aisix_admin.errors import Unknown
from aisix_admin.index import ResourceIndex
from aisix_admin.planning import View
from aisix_common.resources import KINDS
from aisix_common.secret import MASK, Secret
from aisix_common.store.types import KeyValue, Listing

DECISIONS = Decisions(AdminKeys([Secret("an-admin-key")]))
MODELS = Models()
OWN = key_id("m")
SECRET = "sk-canary-of-the-provider"
SENT: Mapping[str, Any] = {"name": "gpt", "model": "openai/gpt-4o", "provider_config": {"api_key": SECRET}}
MODEL: Mapping[str, Any] = {
    "display_name": "gpt",
    "provider": "openai",
    "model_name": "gpt-4o",
    "provider_key_id": OWN,
}
KEY: Mapping[str, Any] = {
    "display_name": "model/gpt",
    "provider": "openai",
    "adapter": "openai",
    "api_key": SECRET,
}
Stored = Mapping[tuple[str, str], Mapping[str, Any]]


def asked(sent: Mapping[str, Any], stored: Stored) -> Asked:
    rows = {
        place: KeyValue(f"/r/{place[0]}/{place[1]}", json.dumps(document).encode(), 1, 1)
        for place, document in stored.items()
    }
    index = ResourceIndex("/r", KINDS)
    index.apply(Listing(tuple(rows.values()), 1))
    view = View({place: rows.get(place) for place in MODELS.targets("m")}, {})
    return Asked("m", sent, view, DECISIONS, index)


def both(model: Mapping[str, Any] | None = None, key: Mapping[str, Any] | None = None, **more: Any) -> Stored:
    """The two rows of a model."""
    return {("models", "m"): {**MODEL, **(model or {})}, ("provider_keys", OWN): {**KEY, **(key or {})}}


def written(sent: Mapping[str, Any], stored: Stored) -> dict[str, tuple[str, Any]]:
    """Kind -> action and stored document, of all edits."""
    MODELS.check(sent, DECISIONS)
    return {edit.kind.name: (edit.action, edit.stored) for edit in MODELS.edits(asked(sent, stored))}


def refusal(sent: Mapping[str, Any], stored: Stored) -> list[str]:
    """The paths of what is wrong."""
    with pytest.raises(Misshapen) as caught:
        written(sent, stored)
    assert SECRET not in caught.value.message
    return [problem.path for problem in caught.value.problems]


def test_a_model_becomes_two_rows() -> None:
    edits = written({**SENT, "timeout": 5000, "rate_limit": {"rpm": 1}}, {})
    assert list(edits) == ["models", "provider_keys"], "its own row first"
    action, model = edits["models"]
    assert (action, model) == ("created", {**MODEL, "timeout": 5000, "rate_limit": {"rpm": 1}})
    action, key = edits["provider_keys"]
    assert action == "created" and {name: key[name] for name in KEY} == KEY and "api_base" not in key


@pytest.mark.parametrize(
    ("provider", "adapter", "base"),
    [
        ("openai", "openai", None),
        ("deepseek", "openai", "https://api.deepseek.com/v1"),
        ("gemini", "openai", "https://generativelanguage.googleapis.com/v1beta/openai"),
        ("anthropic", "anthropic", "https://api.anthropic.com"),
        ("mock", "openai", "http://mock.example.com"),
    ],
)
def test_each_provider_is_reached_as_it_wants(provider: str, adapter: str, base: str | None) -> None:
    assert provider in VENDORS
    config = {"api_key": "k", **({"api_base": base} if provider == "mock" else {})}
    sent = {"name": "x", "model": f"{provider}/a/b", "provider_config": config}
    edits = MODELS.edits(asked(sent, {}))
    model, key = (edit.stored or {} for edit in edits)
    assert (model["provider"], model["model_name"]) == (provider, "a/b")
    assert (key["provider"], key["adapter"], key.get("api_base")) == (provider, adapter, base)
    assert MODELS.written(sent, edits) == {**sent, "provider_config": {**config, "api_key": MASK}}


def test_the_mock_needs_an_address() -> None:
    assert refusal({**SENT, "model": "mock/x"}, {}) == ["/provider_config/api_base"]


def test_a_mask_keeps_the_secret_as_long_as_it_goes_to_the_same_place() -> None:
    masked = {**SENT, "provider_config": {"api_key": MASK}}
    assert list(written({**masked, "timeout": 9}, both())) == ["models"], "the provider key is as it was"
    assert refusal(masked, {}) == ["/provider_config/api_key"]
    moved = {"api_key": MASK, "api_base": "https://evil.example.com"}
    assert refusal({**SENT, "provider_config": moved}, both()) == ["/provider_config/api_key"]
    assert refusal({**masked, "model": "deepseek/x"}, both()) == ["/provider_config/api_key"]
    given = written({**SENT, "provider_config": {**moved, "api_key": "new"}}, both())
    assert given["provider_keys"][1]["api_key"] == "new"


def test_other_secrets_of_the_provider_key_do_not_move_either() -> None:
    stored = both(key={"request": {"default_headers": {"x-team": "canary"}}})
    moved = {"api_key": "new", "api_base": "https://evil.example.com"}
    assert refusal({**SENT, "provider_config": moved}, stored) == ["/provider_config"]
    kept = written({**SENT, "provider_config": {"api_key": "new"}}, stored)
    assert kept["provider_keys"][1]["request"] == {"default_headers": {"x-team": "canary"}}


def test_what_the_dialect_does_not_know_stays() -> None:
    model = {
        "retries": 3,
        "stream_timeout": 7,
        "timeout": 5,
        "of_a_newer_writer": 1,
        "rate_limit": {"rps": 2, "rpm": 1},
    }
    stored = both(model, {"tls": {"verify": True}, "strip_headers": ["x"]})
    edits = written({**SENT, "name": "gpt", "provider_config": {"api_key": "new"}}, stored)
    assert edits["models"] == (
        "replaced",
        {**MODEL, "retries": 3, "stream_timeout": 7, "of_a_newer_writer": 1, "rate_limit": {"rps": 2}},
    )
    key = edits["provider_keys"][1]
    assert (key["tls"], key["strip_headers"], key["api_key"]) == ({"verify": True}, ["x"], "new")


def test_the_provider_key_is_called_after_its_model() -> None:
    taken = {("provider_keys", "other"): {**KEY}}
    assert written(SENT, taken)["provider_keys"][1]["display_name"] == f"model/gpt ({OWN})"
    renamed = {**SENT, "name": "new", "provider_config": {"api_key": MASK}}
    assert written(renamed, both())["provider_keys"][1]["display_name"] == "model/new"
    again = written(renamed, both(key={"display_name": f"model/gpt ({OWN})"}))
    assert again["provider_keys"][1]["display_name"] == "model/new"
    assert "provider_keys" not in written(renamed, both(key={"display_name": "chosen"})), "somebody gave it a name"


def test_models_of_other_shapes_belong_to_the_other_dialect() -> None:
    shared = both({"provider_key_id": "another"})
    assert refusal(SENT, shared) == ["/provider_config"]
    routing = {
        ("models", "m"): {"display_name": "gpt", "routing": {"strategy": "failover", "targets": [{"model": "a"}]}}
    }
    assert refusal(SENT, routing) == ["/model"]
    with pytest.raises(Missing, match="/admin/v1"):
        MODELS.removal(asked({}, routing))


def test_a_provider_key_that_others_use_is_not_changed_and_not_deleted() -> None:
    stored = {**both(), ("models", "other"): {**MODEL, "display_name": "other"}}
    assert list(written({**SENT, "timeout": 1}, stored)) == ["models"]
    assert refusal({**SENT, "provider_config": {"api_key": "new"}}, stored) == ["/provider_config"]
    assert [edit.kind.name for edit in MODELS.removal(asked({}, stored))] == ["models"]
    assert [edit.kind.name for edit in MODELS.removal(asked({}, both()))] == ["models", "provider_keys"]
    with pytest.raises(Unknown):
        MODELS.removal(asked({}, {}))


def test_a_lost_provider_key_is_made_again() -> None:
    stored = {("models", "m"): MODEL}
    assert refusal({**SENT, "provider_config": {"api_key": MASK}}, stored) == ["/provider_config/api_key"]
    assert written(SENT, stored)["provider_keys"][0] == "created"
