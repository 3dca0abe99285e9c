"""What each call wants of one resource: every rule, without HTTP and without etcd."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aisix_admin.auth import AdminKeys
from aisix_admin.caller_keys import MOST_PREVIOUS
from aisix_admin.decisions import LONGEST_OVERLAP, Decisions, require_overlap
from aisix_admin.errors import Invalid, Undecodable, Unknown
from aisix_admin.history import Version
from aisix_admin.planning import Edit
from aisix_admin.references import References
from aisix_admin.rows import Row
from aisix_common.resources import API_KEYS, BY_NAME, MODELS, PROVIDER_KEYS, hash_key, masked
from aisix_common.secret import Secret
from aisix_common.secrets.environment import EnvPolicy

NOW = datetime(2026, 1, 2, tzinfo=UTC)
DECIDE = Decisions(
    AdminKeys([Secret("admin")]),
    References(lambda manager: ["main"] if manager == "vault" else [], EnvPolicy(["AISIX_SECRET_*"], [])),
)
OLD, NEW = hash_key("sk-old"), hash_key("sk-new")
MODEL = {"display_name": "gpt", "provider": "openai", "model_name": "m", "provider_key_id": "k"}
PROVIDER = {"display_name": "p", "api_key": "canary-1", "api_base": "https://a.example"}
CALLER = {"key_hash": OLD, "allowed_models": ["gpt"]}


def stored(document: Any) -> Row:
    return Row("1", json.dumps(document).encode(), 7)


def stamp(seconds: int) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def version(value: dict[str, Any] | None, *, dropped: bool = False) -> Version:
    return Version(3, "", "ops", "replaced", value=value, dropped=dropped)


def document_of(edit: Edit) -> dict[str, Any]:
    assert edit.stored is not None
    return dict(edit.stored)


def problems(refused: pytest.ExceptionInfo[Invalid]) -> list[str]:
    assert "canary" not in refused.value.message + repr(refused.value.problems)
    return [problem.path for problem in refused.value.problems]


# create


def test_a_new_resource_is_stored_with_its_defaults() -> None:
    edit, plaintext = DECIDE.create(PROVIDER_KEYS, "1", {"display_name": "p", "secret": "canary-1"})
    assert (edit.place, edit.action, plaintext) == (("provider_keys", "1"), "created", None)
    assert document_of(edit)["api_key"] == "canary-1" and document_of(edit)["strip_headers"]
    assert "canary-1" not in repr(edit.value)


def test_a_caller_key_is_made_where_none_is_brought() -> None:
    edit, plaintext = DECIDE.create(API_KEYS, "1", {"allowed_models": []}, lambda: Secret("sk-new"))
    assert plaintext == Secret("sk-new") and document_of(edit)["key_hash"] == NEW
    edit, plaintext = DECIDE.create(API_KEYS, "1", {"allowed_models": [], "key": "sk-old"}, lambda: Secret("sk-new"))
    assert plaintext is None and document_of(edit) == {"key_hash": OLD, "allowed_models": []}


def test_everything_wrong_with_a_new_resource_is_told_at_once() -> None:
    with pytest.raises(Invalid) as refused:
        DECIDE.create(API_KEYS, "1", {"key": "admin", "allowed_models": 5, "new": 1})
    assert set(problems(refused)) == {"/key_hash", "/allowed_models", "/new"}
    with pytest.raises(Invalid) as refused:
        DECIDE.create(PROVIDER_KEYS, "1", {"display_name": "p", "api_key": "***"})
    assert problems(refused) == ["/api_key"]


# replace


def test_what_is_not_there_is_neither_replaced_nor_deleted() -> None:
    calls: list[Callable[[], Edit]] = [
        lambda: DECIDE.replace(MODELS, None, "1", MODEL),
        lambda: DECIDE.patch(MODELS, None, "1", {}),
        lambda: DECIDE.delete(MODELS, None, "1"),
        lambda: DECIDE.rotate(None, "1", Secret("sk-new"), 0, NOW),
        lambda: DECIDE.roll_back(MODELS, None, "1", version(MODEL), None),
    ]
    for call in calls:
        with pytest.raises(Unknown):
            call()
    assert DECIDE.delete(MODELS, stored(MODEL), "1") == Edit(MODELS, "1", "deleted")


def test_masks_keep_and_fields_of_foreign_writers_stay() -> None:
    edit = DECIDE.replace(PROVIDER_KEYS, stored({**PROVIDER, "new": {"x": 1}}), "1", {**PROVIDER, "api_key": "***"})
    assert document_of(edit)["api_key"] == "canary-1"
    assert document_of(edit)["new"] == {"x": 1}
    assert edit.action == "replaced"


def test_a_secret_goes_nowhere_else_by_its_mask() -> None:
    sent = {**PROVIDER, "api_key": "***", "api_base": "https://b.example"}
    with pytest.raises(Invalid) as refused:
        DECIDE.replace(PROVIDER_KEYS, stored(PROVIDER), "1", sent)
    assert problems(refused) == ["/api_key"]


def test_a_row_that_cannot_be_read_can_be_replaced_in_full() -> None:
    edit = DECIDE.replace(MODELS, Row("1", b"not json", 7), "1", MODEL)
    assert document_of(edit)["display_name"] == "gpt"
    with pytest.raises(Invalid) as refused:
        DECIDE.replace(PROVIDER_KEYS, Row("1", b"not json", 7), "1", {**PROVIDER, "api_key": "***"})
    assert problems(refused) == ["/api_key"]


@pytest.mark.parametrize("odd", ["A" * 64, "$secret://vault/hash", "short"])
def test_a_hash_of_another_form_may_stay(odd: str) -> None:
    row = stored({**CALLER, "key_hash": odd})
    assert document_of(DECIDE.replace(API_KEYS, row, "1", {**CALLER, "key_hash": odd}))["key_hash"] == odd


# patch


def test_a_patch_changes_what_it_names() -> None:
    row = stored({**MODEL, "timeout": 5, "retries": 2, "new": 1})
    edit = DECIDE.patch(MODELS, row, "1", {"timeout": None, "retries": 3})
    assert document_of(edit) == {**MODEL, "retries": 3, "new": 1}
    assert edit.action == "patched"
    assert document_of(DECIDE.patch(MODELS, row, "1", {})) == {**MODEL, "timeout": 5, "retries": 2, "new": 1}


def test_a_patch_keeps_the_secrets_it_does_not_name() -> None:
    row = stored({**PROVIDER, "request": {"default_headers": {"a": "canary-2", "b": "canary-3"}}})
    edit = DECIDE.patch(PROVIDER_KEYS, row, "1", {"display_name": "q", "request": {"default_headers": {"a": "x"}}})
    assert document_of(edit)["api_key"] == "canary-1"
    assert document_of(edit)["request"] == {"default_headers": {"a": "x", "b": "canary-3"}}
    with pytest.raises(Invalid) as refused:
        DECIDE.patch(PROVIDER_KEYS, row, "1", {"api_base": "https://b.example"})
    assert problems(refused) == ["/api_key", "/request/default_headers/a", "/request/default_headers/b"]


def test_a_patch_may_use_the_older_spelling() -> None:
    for row in (stored(PROVIDER), stored({"display_name": "p", "secret": "canary-1"})):
        document = document_of(DECIDE.patch(PROVIDER_KEYS, row, "1", {"secret": "canary-2"}))
        assert document["api_key"] == "canary-2" and "secret" not in document
    with pytest.raises(Invalid) as refused:
        DECIDE.patch(PROVIDER_KEYS, stored(PROVIDER), "1", {"secret": "canary-2", "api_key": "canary-3"})
    assert problems(refused) == ["/api_key"]
    with pytest.raises(Invalid) as refused:
        DECIDE.patch(PROVIDER_KEYS, stored(PROVIDER), "1", {"secret": None})
    assert problems(refused) == ["/api_key"]


def test_a_patch_may_bring_a_new_key_in_place_of_the_hash() -> None:
    assert document_of(DECIDE.patch(API_KEYS, stored(CALLER), "1", {"key": "sk-new"}))["key_hash"] == NEW
    assert document_of(DECIDE.patch(API_KEYS, stored(CALLER), "1", {"key": "sk-new", "key_hash": None}))["key_hash"]
    assert document_of(DECIDE.patch(API_KEYS, stored(CALLER), "1", {"key": None})) == CALLER, "takes away nothing"
    for patch in ({"key": "sk-new", "key_hash": NEW}, {"key": "admin"}, {"key_hash": None}, {"key": 5}):
        with pytest.raises(Invalid):
            DECIDE.patch(API_KEYS, stored(CALLER), "1", patch)


def test_a_patch_of_what_cannot_be_shown_is_refused() -> None:
    with pytest.raises(Undecodable):
        DECIDE.patch(MODELS, Row("1", b"[]", 7), "1", {"retries": 3})
    with pytest.raises(Invalid) as refused:
        DECIDE.patch(MODELS, stored(MODEL), "1", {"new": 1, "retries": "3"})
    assert set(problems(refused)) == {"/new", "/retries"}


# rotate


def rotated(document: dict[str, Any], overlap: int) -> dict[str, Any]:
    return document_of(DECIDE.rotate(stored(document), "1", Secret("sk-new"), overlap, NOW))


def test_a_new_key_and_the_one_before_for_a_while() -> None:
    row = {**CALLER, "display_name": "alice", "disabled": True, "expires_at": "2027-01-01T00:00:00Z", "new": 1}
    assert rotated(row, 0) == {**row, "key_hash": NEW}
    document = rotated(row, 60)
    assert document == {**row, "key_hash": NEW, "previous_keys": [{"hash": OLD, "until": stamp(60)}]}
    assert DECIDE.rotate(stored(row), "1", Secret("sk-new"), 60, NOW).action == "rotated"


def test_keys_of_the_past_go_when_their_time_is_over_or_there_are_too_many() -> None:
    past = [
        {"hash": "a" * 64, "until": stamp(30)},
        {"hash": "b" * 64, "until": stamp(-1)},
        {"hash": "c" * 64, "until": stamp(10)},
    ]
    document = rotated({**CALLER, "previous_keys": past}, 60)
    assert [each["hash"] for each in document["previous_keys"]] == [OLD, "a" * 64, "c" * 64]
    assert "previous_keys" not in rotated({**CALLER, "previous_keys": past}, 0), "withdrawn, all of them"
    many = [{"hash": f"{n:064x}", "until": stamp(60)} for n in range(MOST_PREVIOUS)]
    kept = rotated({**CALLER, "previous_keys": many}, 60)["previous_keys"]
    assert len(kept) == MOST_PREVIOUS and kept[0]["hash"] == OLD and kept[-1]["hash"] == f"{MOST_PREVIOUS - 2:064x}"


def test_rotating_again_and_again_stays_bounded() -> None:
    document: dict[str, Any] = CALLER
    for n in range(MOST_PREVIOUS + 4):
        edit = DECIDE.rotate(stored(document), "1", Secret(f"sk-{n}"), 60, NOW)
        document = document_of(edit)
    assert document["key_hash"] == hash_key(f"sk-{MOST_PREVIOUS + 3}")
    assert [each["hash"] for each in document["previous_keys"]] == [
        hash_key(f"sk-{n}") for n in range(MOST_PREVIOUS + 2, 2, -1)
    ]


@pytest.mark.parametrize("reference", ["$secret://vault/hash", "$env://AISIX_SECRET_KEY"])
def test_a_hash_from_a_secret_manager_is_rotated_there(reference: str) -> None:
    with pytest.raises(Invalid) as refused:
        rotated({**CALLER, "key_hash": reference}, 0)
    assert problems(refused) == ["/key_hash"] and reference not in refused.value.message


def test_a_row_that_cannot_be_read_is_not_rotated() -> None:
    with pytest.raises(Undecodable):
        DECIDE.rotate(Row("1", b"{}", 7), "1", Secret("sk-new"), 0, NOW)


@pytest.mark.parametrize("value", [-1, LONGEST_OVERLAP + 1, True, 1.0, "5", None, [], 10**400])
def test_an_overlap_is_a_number_within_bounds(value: object) -> None:
    with pytest.raises(Invalid) as refused:
        require_overlap(value)
    assert problems(refused) == ["/overlap_seconds"]
    assert [require_overlap(each) for each in (0, LONGEST_OVERLAP)] == [0, LONGEST_OVERLAP]


# roll back


def test_a_version_comes_back_with_the_present_credential() -> None:
    now = {
        "key_hash": NEW,
        "allowed_models": [],
        "disabled": True,
        "expires_at": "2027-01-01T00:00:00Z",
        "previous_keys": [{"hash": "c" * 64, "until": stamp(5)}],
        "new": 1,
    }
    past = {
        **CALLER,
        "display_name": "alice",
        "expires_at": "2026-01-01T00:00:00Z",
        "previous_keys": [{"hash": "d" * 64, "until": stamp(9)}],
    }
    edit = DECIDE.roll_back(API_KEYS, stored(now), "1", version(past), None)
    assert document_of(edit) == {**now, "display_name": "alice", "allowed_models": ["gpt"]}
    assert edit.action == "rolled_back"


def test_what_the_key_does_not_have_now_does_not_come_back() -> None:
    past = {**CALLER, "key_hash": NEW, "disabled": True, "expires_at": "2026-01-01T00:00:00Z"}
    edit = DECIDE.roll_back(API_KEYS, stored(CALLER), "1", version(past), None)
    assert document_of(edit) == CALLER


def test_masks_of_a_version_are_the_present_secrets() -> None:
    past = {"display_name": "older", "api_key": "***", "api_base": "https://a.example"}
    edit = DECIDE.roll_back(PROVIDER_KEYS, stored(PROVIDER), "1", version(past), None)
    assert document_of(edit)["api_key"] == "canary-1" and document_of(edit)["display_name"] == "older"


def test_going_back_to_another_destination_needs_the_secret_again() -> None:
    past = {"display_name": "p", "api_key": "***", "api_base": "https://elsewhere.example"}
    with pytest.raises(Invalid) as refused:
        DECIDE.roll_back(PROVIDER_KEYS, stored(PROVIDER), "1", version(past), None)
    assert problems(refused) == ["/api_key"]
    for also in ({"api_key": "canary-2"}, {"secret": "canary-2"}):
        edit = DECIDE.roll_back(PROVIDER_KEYS, stored(PROVIDER), "1", version(past), also)
        assert document_of(edit)["api_key"] == "canary-2"
        assert document_of(edit)["api_base"] == "https://elsewhere.example"


def test_a_secret_that_is_gone_must_be_brought() -> None:
    past = {**PROVIDER, "api_key": "***", "request": {"default_headers": {"x": "***"}}}
    with pytest.raises(Invalid) as refused:
        DECIDE.roll_back(PROVIDER_KEYS, stored(PROVIDER), "1", version(past), None)
    assert problems(refused) == ["/request/default_headers/x"]
    also = {"request": {"default_headers": {"x": "canary-4"}}}
    edit = DECIDE.roll_back(PROVIDER_KEYS, stored(PROVIDER), "1", version(past), also)
    assert document_of(edit)["request"] == also["request"]


@pytest.mark.parametrize(("dropped", "why"), [(True, "too large"), (False, "the deletion")])
def test_a_version_without_a_document_is_nothing_to_go_back_to(dropped: bool, why: str) -> None:
    one = version(None, dropped=dropped)
    calls: list[Callable[[], Edit]] = [
        lambda: DECIDE.roll_back(MODELS, stored(MODEL), "1", one, None),
        lambda: DECIDE.restore(MODELS, "1", one, version(MODEL), None),
    ]
    for call in calls:
        with pytest.raises(Invalid, match=why) as refused:
            call()
        assert problems(refused) == ["/version"]


def test_a_present_row_that_cannot_be_read_has_no_credential_to_keep() -> None:
    with pytest.raises(Undecodable):
        DECIDE.roll_back(API_KEYS, Row("1", b"{}", 7), "1", version(CALLER), None)


# restore


def test_a_caller_key_comes_back_disabled_with_its_last_credential() -> None:
    last = {
        **CALLER,
        "key_hash": NEW,
        "expires_at": "2027-01-01T00:00:00Z",
        "previous_keys": [{"hash": OLD, "until": stamp(9)}],
    }
    edit = DECIDE.restore(API_KEYS, "1", version({**CALLER, "display_name": "alice"}), version(last), None)
    assert document_of(edit) == {**last, "display_name": "alice", "disabled": True}
    assert edit.action == "restored"


@pytest.mark.parametrize("odd", ["A" * 64, "$secret://vault/main/a/hash"])
def test_a_hash_of_another_form_comes_back_as_it_was(odd: str) -> None:
    one = version({**CALLER, "key_hash": odd})
    assert document_of(DECIDE.restore(API_KEYS, "1", one, one, None))["key_hash"] == odd


def test_a_restored_key_may_get_a_new_secret() -> None:
    edit = DECIDE.restore(API_KEYS, "1", version(CALLER), version(CALLER), {"key": "sk-new"})
    assert document_of(edit) == {**CALLER, "key_hash": NEW, "disabled": True}
    with pytest.raises(Invalid):
        DECIDE.restore(API_KEYS, "1", version(CALLER), version(CALLER), {"key": "admin"})


def test_secrets_of_a_deleted_resource_are_gone() -> None:
    one = version({**PROVIDER, "api_key": "***"})
    with pytest.raises(Invalid) as refused:
        DECIDE.restore(PROVIDER_KEYS, "1", one, one, None)
    assert problems(refused) == ["/api_key"]
    edit = DECIDE.restore(PROVIDER_KEYS, "1", one, one, {"api_key": "canary-2"})
    assert document_of(edit)["api_key"] == "canary-2"


def test_what_is_not_a_caller_key_comes_back_as_it_was() -> None:
    one = version({"name": "c", "enabled": True})
    edit = DECIDE.restore(BY_NAME["cache_policies"], "1", one, one, None)
    assert document_of(edit)["enabled"] is True and "disabled" not in document_of(edit)


def test_a_version_is_not_changed_by_going_back_to_it() -> None:
    value = {**PROVIDER, "api_key": "***", "request": {"default_headers": {"x": "***"}}}
    before = json.dumps(value)
    DECIDE.restore(
        PROVIDER_KEYS, "1", version(value), version(value), {"api_key": "k", "request": {"default_headers": {"x": "y"}}}
    )
    assert json.dumps(value) == before


# secret references

SHORT, LONG = "$SECRET://vault/team/openai/key", "$secret://vault/main/team/openai/key"
GONE = "$secret://aws/gone/openai"


def test_references_are_stored_in_their_long_form() -> None:
    for edit in (
        DECIDE.create(PROVIDER_KEYS, "1", {**PROVIDER, "api_key": SHORT})[0],
        DECIDE.replace(PROVIDER_KEYS, stored(PROVIDER), "1", {**PROVIDER, "api_key": SHORT}),
        DECIDE.patch(PROVIDER_KEYS, stored(PROVIDER), "1", {"api_key": SHORT}),
        DECIDE.roll_back(PROVIDER_KEYS, stored(PROVIDER), "1", version({**PROVIDER, "api_key": SHORT}), None),
        DECIDE.restore(PROVIDER_KEYS, "1", version({**PROVIDER, "api_key": SHORT}), version(PROVIDER), None),
    ):
        assert document_of(edit)["api_key"] == LONG and masked(PROVIDER_KEYS, edit.value)["api_key"] == LONG


@pytest.mark.parametrize(
    ("document", "path", "why"),
    [
        ({**PROVIDER, "api_key": "$secret://vault"}, "/api_key", "no secret conf id"),
        ({**PROVIDER, "api_key": "$secret://vaults/main/x"}, "/api_key", "no secret manager that is known"),
        ({**PROVIDER, "api_key": GONE}, "/api_key", "there is no aws provider"),
        ({**PROVIDER, "api_key": "$env://PATH"}, "/api_key", "secrets.env_allow"),
        (
            {**PROVIDER, "request": {"default_headers": {"x-y": "$env://AISIX_ADMIN_KEY"}}},
            "/request/default_headers/x-y",
            "the gateway's own configuration",
        ),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused_where_it_stands(
    document: dict[str, Any], path: str, why: str
) -> None:
    with pytest.raises(Invalid, match=why) as refused:
        DECIDE.create(PROVIDER_KEYS, "1", document)
    assert problems(refused) == [path]
    with pytest.raises(Invalid):
        DECIDE.replace(PROVIDER_KEYS, stored(PROVIDER), "1", document)


def test_a_reference_whose_provider_went_away_does_not_hinder_other_edits() -> None:
    row = stored({**PROVIDER, "api_key": GONE})
    assert document_of(DECIDE.patch(PROVIDER_KEYS, row, "1", {"display_name": "q"}))["api_key"] == GONE
    with pytest.raises(Invalid) as refused:
        DECIDE.patch(PROVIDER_KEYS, row, "1", {"api_key": GONE + "/other"})
    assert problems(refused) == ["/api_key"]


def test_what_is_stored_goes_on_meaning_what_it_meant() -> None:
    """A short form now means the one provider there is, which may be another than when it was written."""
    row = stored({**PROVIDER, "api_key": "$secret://vault/former/key"})
    assert document_of(DECIDE.patch(PROVIDER_KEYS, row, "1", {"display_name": "q"}))["api_key"].endswith("/former/key")
    assert "/main/" not in document_of(DECIDE.patch(PROVIDER_KEYS, row, "1", {}))["api_key"]


def test_a_reference_that_is_shown_may_be_sent_elsewhere_and_a_masked_secret_may_not() -> None:
    row = stored({**PROVIDER, "api_key": LONG, "request": {"default_headers": {"x": "canary-2"}}})
    elsewhere = {"api_base": "https://b.example", "request": {"default_headers": None}}
    assert document_of(DECIDE.patch(PROVIDER_KEYS, row, "1", elsewhere))["api_key"] == LONG
    with pytest.raises(Invalid) as refused:
        DECIDE.patch(PROVIDER_KEYS, row, "1", {"api_base": "https://b.example"})
    assert problems(refused) == ["/request/default_headers/x"]
    with pytest.raises(Invalid) as refused:  # a mask is no reference, whatever it stands for
        DECIDE.patch(PROVIDER_KEYS, row, "1", {**elsewhere, "api_key": "***"})
    assert problems(refused) == ["/api_key"]


def test_a_caller_key_that_is_a_reference() -> None:
    edit, made = DECIDE.create(API_KEYS, "1", {"key": "$secret://vault/api-key-path/my-key", "allowed_models": []})
    assert made is None and document_of(edit)["key_hash"] == "$secret://vault/main/api-key-path/my-key"
    row = stored(document_of(edit))
    assert document_of(DECIDE.patch(API_KEYS, row, "1", {"disabled": True}))["key_hash"] == edit.value.key_hash
    assert document_of(DECIDE.patch(API_KEYS, row, "1", {"key": SHORT}))["key_hash"] == LONG
    with pytest.raises(Invalid) as refused:
        DECIDE.create(API_KEYS, "1", {"key": GONE, "allowed_models": []})
    assert problems(refused) == ["/key_hash"]


def test_what_looks_encrypted_is_taken_only_where_it_was_kept() -> None:
    sealed = "enc:v1:k1:AAAA"
    row = stored({**PROVIDER, "api_key": sealed})
    assert document_of(DECIDE.patch(PROVIDER_KEYS, row, "1", {"display_name": "q"}))["api_key"] == sealed
    for write in (
        lambda: DECIDE.create(PROVIDER_KEYS, "1", {**PROVIDER, "api_key": sealed}),
        lambda: DECIDE.patch(PROVIDER_KEYS, row, "1", {"api_key": sealed}),
    ):
        with pytest.raises(Invalid, match="encrypted") as refused:
            write()
        assert problems(refused) == ["/api_key"] and "AAAA" not in refused.value.message


def test_what_is_written_together_is_known_together() -> None:
    document = {**PROVIDER, "api_key": GONE}
    assert DECIDE.along(["aws/gone"], []).create(PROVIDER_KEYS, "1", document)[0]
    with pytest.raises(Invalid):
        DECIDE.along([], ["vault/main"]).create(PROVIDER_KEYS, "1", {**PROVIDER, "api_key": LONG})
    assert DECIDE.along([], []).references is DECIDE.references
