"""Secret providers in the dialect of APISIX and API7, without HTTP; over a socket: test_provider_calls.py."""

import json
from typing import Any

import pytest

from aisix_admin.api.compat.secret_providers import DEFAULT_TOKEN_URI, inward, outward, patched, place
from aisix_common.errors import Problem
from aisix_common.resources import SECRET_PROVIDERS, check
from aisix_common.secret import MASK

VAULT = {"uri": "https://vault.example:8200", "prefix": "kv/apisix", "token": "canary-token", "namespace": "team"}
AWS = {"access_key_id": "canary-id", "secret_access_key": "canary-key", "region": "eu-west-1"}
ACCOUNT = {"client_email": "a@b.iam", "private_key": "canary-pem", "project_id": "p-1"}
KUBERNETES = {
    "apiserver_addr": "https://k8s.example",
    "token": "canary-sa",
    "namespaces": ["prod"],
    "names": ["aisix-*"],
}
AZURE = {"vault_url": "https://v.vault.azure.net", "tenant_id": "t", "client_id": "c", "client_secret": "canary-cs"}


def taken(manager: str, sent: dict[str, Any], current: Any = None) -> Any:
    """The typed resource of what is sent."""
    document, problems = inward(manager, "main", sent, current)
    assert not problems, problems
    return check(SECRET_PROVIDERS, document)


def refused(manager: str, sent: dict[str, Any]) -> list[str]:
    problems = inward(manager, "main", sent, None)[1]
    assert "canary" not in repr(problems)
    return [problem.path for problem in problems]


@pytest.mark.parametrize(
    ("manager", "sent", "ours"),
    [
        (
            "vault",
            VAULT,
            {
                "uri": "https://vault.example:8200",
                "mount": "kv",
                "prefix": "apisix",
                "kv_version": "v1",
                "namespace": "team",
                "auth": {"method": "token", "token": "canary-token"},
            },
        ),
        ("vault", {**VAULT, "prefix": "/kv/", "kv_version": "kv-v2"}, {"mount": "kv", "kv_version": "v2"}),
        ("vault", {**VAULT, "prefix": "kv/a/b"}, {"mount": "kv", "prefix": "a/b"}),
        ("vault", {**VAULT, "mount": "team/kv"}, {"mount": "team/kv", "prefix": "kv/apisix"}),
        ("aws", AWS, AWS),
        ("azure", AZURE, AZURE),
        (
            "kubernetes",
            KUBERNETES,
            {"apiserver": "https://k8s.example", "token": "canary-sa", "namespaces": ["prod"], "names": ["aisix-*"]},
        ),
        ("gcp", {"project_id": "p"}, {"project_id": "p"}),
        ("gcp", {"auth_config": ACCOUNT, "ssl_verify": True}, {"project_id": "p-1"}),
    ],
)
def test_fields_stand_where_ours_are(manager: str, sent: dict[str, Any], ours: dict[str, Any]) -> None:
    document, problems = inward(manager, "main", sent, None)
    assert not problems and {name: document[name] for name in ours} == ours
    assert check(SECRET_PROVIDERS, document).identity == f"{manager}/main"


@pytest.mark.parametrize(
    ("patch", "mount", "prefix"),
    [
        ({"mount": "team/kv"}, "team/kv", "apisix"),
        ({"mount": "team/kv", "prefix": None}, "team/kv", None),
        ({"mount": "team/kv", "prefix": "b"}, "team/kv", "b"),
        ({"prefix": "b/c"}, "b", "c"),
        ({"namespace": None}, "kv", "apisix"),
    ],
)
def test_a_patch_of_our_mount_leaves_what_is_below_it(patch: dict[str, Any], mount: str, prefix: str | None) -> None:
    current = taken("vault", VAULT)
    assert outward(current)["prefix"] == "kv/apisix"
    value = taken("vault", patched(current, patch), current)
    assert (value.mount, value.prefix) == (mount, prefix)


def test_a_service_account_is_one_secret() -> None:
    document, _ = inward("gcp", "main", {"auth_config": ACCOUNT}, None)
    account = json.loads(document["service_account"])
    assert account == {"type": "service_account", **ACCOUNT, "token_uri": DEFAULT_TOKEN_URI}


@pytest.mark.parametrize(
    ("manager", "sent"),
    [
        ("vault", VAULT),
        ("vault", {**VAULT, "token": "$env://AISIX_SECRET_T"}),
        ("vault", {"uri": "https://v.example", "prefix": "kv", "auth": {"method": "kubernetes", "role": "r"}}),
        ("vault", {"uri": "https://v.example", "mount": "a/b", "prefix": "c", "token": "canary"}),
        ("aws", AWS),
        ("azure", AZURE),
        ("gcp", {"auth_config": ACCOUNT}),
        ("gcp", {"project_id": "p-1", "service_account": "$env://AISIX_SECRET_G"}),
        ("gcp", {"project_id": "p-1"}),
        ("kubernetes", KUBERNETES),
        ("kubernetes", {"namespaces": ["a"], "names": ["b"]}),
    ],
)
def test_what_is_shown_may_be_sent_back_and_means_the_same(manager: str, sent: dict[str, Any]) -> None:
    value = taken(manager, sent)
    shown = outward(value)
    assert "canary" not in json.dumps(shown) and (shown["id"], shown["manager"]) == ("main", manager)
    again = taken(manager, shown, value)
    assert outward(again) == shown
    for field in value.__struct_fields__:  # all that is no secret
        before, after = getattr(value, field), getattr(again, field)
        assert before == after or MASK in json.dumps(shown)
    if manager == "vault":
        assert (again.mount, again.prefix) == (value.mount, value.prefix)


@pytest.mark.parametrize(
    ("manager", "sent", "paths"),
    [
        ("vault", {**VAULT, "id": "other"}, ["/id"]),
        ("vault", {**VAULT, "manager": "aws", "name": "x"}, ["/name", "/manager"]),
        ("vault", {**VAULT, "auth": {}}, ["/token"]),
        ("gcp", {"auth_file": "/etc/passwd", "project_id": "p"}, ["/auth_file"]),
        ("gcp", {"auth_config": ACCOUNT, "ssl_verify": False}, ["/ssl_verify"]),
        ("gcp", {"auth_config": []}, ["/auth_config"]),
        ("gcp", {"auth_config": ACCOUNT, "project_id": "p"}, ["/project_id"]),
        ("gcp", {"auth_config": {**ACCOUNT, "entries_uri": "x"}}, ["/auth_config/entries_uri"]),
        (
            "gcp",
            {"auth_config": {"client_email": 1, "token_uri": ""}},
            [
                "/auth_config/project_id",
                "/auth_config/client_email",
                "/auth_config/private_key",
                "/auth_config/token_uri",
            ],
        ),
        ("gcp", {"auth_config": {**ACCOUNT, "private_key": MASK}}, ["/auth_config/private_key"]),
        ("gcp", {"auth_config": {**ACCOUNT, "private_key": "$env://X"}}, ["/auth_config/private_key"]),
        ("kubernetes", {**KUBERNETES, "apiserver": "https://x.example"}, ["/apiserver_addr"]),
    ],
)
def test_what_has_no_meaning_is_refused(manager: str, sent: dict[str, Any], paths: list[str]) -> None:
    assert refused(manager, sent) == paths


@pytest.mark.parametrize(
    ("manager", "sent", "ours", "theirs"),
    [
        ("vault", VAULT, "/auth/token", "/token"),
        ("vault", {}, "/auth", "/token"),
        ("vault", {"auth": {}}, "/auth/method", "/auth/method"),
        ("vault", VAULT, "/mount", "/prefix"),
        ("vault", {"mount": "x"}, "/mount", "/mount"),
        ("vault", VAULT, "/uri", "/uri"),
        ("gcp", {"auth_config": {}}, "/service_account", "/auth_config"),
        ("gcp", {"auth_config": {}}, "/project_id", "/auth_config/project_id"),
        ("gcp", {"project_id": 1}, "/project_id", "/project_id"),
        ("kubernetes", KUBERNETES, "/apiserver", "/apiserver_addr"),
        ("aws", {}, "/name", "/id"),
    ],
)
def test_problems_are_told_where_the_client_wrote_them(
    manager: str, sent: dict[str, Any], ours: str, theirs: str
) -> None:
    assert place(Problem(ours, "wrong"), manager, sent).path == theirs
