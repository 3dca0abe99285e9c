"""Secret providers beyond the table: what they are known by, and what `repr` and answers do not show."""

from typing import Any, get_args

import pytest
from msgspec import json

from aisix_common.resources import SECRET_PROVIDERS, SecretProvider, check, document, masked
from aisix_common.resources.concealed import secrets_in
from aisix_common.secret import MASK
from aisix_common.secrets.reference import MANAGERS

from .cases import Case, load

SOUND = [case for case in load("secret_providers") if case.strict == "ok"]


def test_the_table_has_every_manager_and_every_way_to_log_in() -> None:
    tags = {each.__struct_config__.tag for each in get_args(SecretProvider)}
    assert {case.document["manager"] for case in SOUND} == tags == set(MANAGERS)
    ways = {case.document["auth"]["method"] for case in SOUND if "auth" in case.document}
    assert ways == {"token", "kubernetes", "approle"}


@pytest.mark.parametrize("case", SOUND, ids=lambda case: case.name)
def test_known_by_manager_and_name(case: Case) -> None:
    value = check(SECRET_PROVIDERS, case.document)
    assert SECRET_PROVIDERS.name_of(value) == f"{case.document['manager']}/{case.document['name']}"
    assert SECRET_PROVIDERS.label_of(value) == case.document["name"]
    assert "identity" not in document(SECRET_PROVIDERS, value)


@pytest.mark.parametrize("case", SOUND, ids=lambda case: case.name)
def test_documents_say_what_was_given(case: Case) -> None:
    stored = document(SECRET_PROVIDERS, check(SECRET_PROVIDERS, case.document))
    given = {name: value for name, value in case.document.items() if value is not None and name != "auth"}
    assert {name: stored[name] for name in given} == given
    assert case.document.get("auth", {}).items() <= stored.get("auth", {}).items()


@pytest.mark.parametrize("case", SOUND, ids=lambda case: case.name)
def test_every_credential_is_masked(case: Case) -> None:
    value = check(SECRET_PROVIDERS, case.document)
    shown: Any = masked(SECRET_PROVIDERS, value)
    for at, secret in secrets_in(value):
        place: Any = shown
        for step in at:
            place = place[step]
        text = secret.reveal()
        assert place == (text if text.lower().startswith("$env://") else MASK), "a reference is no secret"
    assert "sk-canary" not in json.encode(shown).decode() + repr(value)


def test_where_its_secrets_go_is_known() -> None:
    """Whatever names a place or whom to trust there; the rest says what is read there, and with which credential."""
    fields = {field for struct in SECRET_PROVIDERS.structs for field in struct.__struct_fields__}
    sensitive = {"auth", "token", "access_key_id", "secret_access_key", "session_token", "client_secret"}
    rest = {"name", "kv_version", "namespaces", "names", "project_id", "service_account", "tenant_id", "client_id"}
    assert set(SECRET_PROVIDERS.destinations) == fields - sensitive - rest
