"""Caller keys in the older dialect, without HTTP; over a socket they are in test_calls.py."""

import hashlib
import json
from typing import Any

import pytest

from aisix_admin.api.compat.apikeys import ApiKeys
from aisix_admin.api.compat.envelope import Misshapen
from aisix_admin.api.compat.translation import Asked
from aisix_admin.auth import AdminKeys
from aisix_admin.decisions import Decisions
from aisix_admin.index import ResourceIndex
from aisix_admin.planning import Edit, View
from aisix_admin.references import References
from aisix_common.resources import KINDS
from aisix_common.secret import MASK, Secret
from aisix_common.secrets.environment import EnvPolicy
from aisix_common.store.types import KeyValue

ADMIN = "an-admin-key"
DECISIONS = Decisions(
    AdminKeys([Secret(ADMIN)]),
    References(lambda manager: ["main"] if manager == "vault" else [], EnvPolicy([], [])),
)
KEYS = ApiKeys()
HASH = hashlib.sha256(b"sk-x").hexdigest()


def asked(sent: dict[str, Any], stored: dict[str, Any] | None = None) -> Asked:
    row = None if stored is None else KeyValue("/r/api_keys/k", json.dumps(stored).encode(), 1, 1)
    return Asked("k", sent, View({("api_keys", "k"): row}, {}), DECISIONS, ResourceIndex("/r", KINDS))


def edit(sent: dict[str, Any], stored: dict[str, Any] | None = None) -> Edit:
    KEYS.check(sent, DECISIONS)
    (made,) = KEYS.edits(asked(sent, stored))
    return made


def test_the_key_is_stored_as_its_hash() -> None:
    made = edit({"key": " sk-x ", "allowed_models": ["a"], "rate_limit": {"rpm": 1}})
    assert made.action == "created"
    assert made.stored == {"key_hash": HASH, "allowed_models": ["a"], "rate_limit": {"rpm": 1}}
    assert KEYS.written({}, [made]) == {"key": MASK, "allowed_models": ["a"], "rate_limit": {"rpm": 1}}


def test_what_the_dialect_does_not_know_stays() -> None:
    stored = {
        "key_hash": "0" * 64,
        "allowed_models": [],
        "team_id": "t",
        "disabled": True,
        "rate_limit": {"rps": 3, "rpm": 9},
        "of_a_newer_writer": [1],
        "previous_keys": [{"hash": "1" * 64, "until": "2030-01-01T00:00:00Z"}],
    }
    made = edit({"key": MASK, "allowed_models": ["b"]}, stored)
    assert made.action == "replaced"
    assert made.stored == {**stored, "allowed_models": ["b"], "rate_limit": {"rps": 3}}
    made = edit({"key": "sk-x", "allowed_models": ["b"]}, stored)
    assert made.stored == {**stored, "allowed_models": ["b"], "rate_limit": {"rps": 3}, "key_hash": HASH}


@pytest.mark.parametrize(
    ("sent", "paths"),
    [
        ({"key": ADMIN, "allowed_models": []}, ["/key"]),
        ({"key": "two words", "allowed_models": 1}, ["/allowed_models", "/key"]),
        ({"key": "$secret://vault", "allowed_models": []}, ["/key"]),
        ({"key": "$secret://aws/x/y", "allowed_models": []}, ["/key"]),
        ({"key": "$env://NAME", "allowed_models": []}, ["/key"]),
        ({"key": MASK, "allowed_models": []}, ["/key"]),
    ],
)
def test_keys_that_cannot_be_are_refused(sent: dict[str, Any], paths: list[str]) -> None:
    with pytest.raises(Misshapen) as caught:
        edit(sent)
    assert [problem.path for problem in caught.value.problems] == paths
    for line in caught.value.message.splitlines():
        assert 'property "/' in line and "validation failed: " in line
    assert ADMIN not in caught.value.message and "x/y" not in caught.value.message


def test_a_row_that_is_no_document_is_replaced_whole() -> None:
    assert edit({"key": "sk-x", "allowed_models": []}, {"allowed_models": 1}).stored == {
        "key_hash": HASH,
        "allowed_models": [],
    }
    with pytest.raises(Misshapen):
        edit({"key": MASK, "allowed_models": []}, {"allowed_models": 1})


def test_a_key_that_is_a_reference_is_stored_shown_and_kept_as_one() -> None:
    """As the customer's page on credentials prints it."""
    printed, long = "$secret://vault/api-key-path/my-key", "$secret://vault/main/api-key-path/my-key"
    made = edit({"key": printed, "allowed_models": []})
    assert made.stored == {"key_hash": long, "allowed_models": []}
    shown = KEYS.written({}, [made])
    assert shown == {"key": long, "allowed_models": []}
    for key in (long, MASK):
        again = edit({**shown, "key": key, "allowed_models": ["a"]}, dict(made.stored))
        assert again.stored == {"key_hash": long, "allowed_models": ["a"]}
