"""Managers named in config.yaml, and what of the environment belongs to the gateway."""

import pytest

from aisix_common.errors import ConfigurationError
from aisix_common.secrets.providers import configured, env_policy, own_variables
from aisix_common.settings import Settings
from aisix_common.settings.loader import build
from aisix_common.yaml12 import load

LEAST = {"proxy": {"addr": "127.0.0.1:1"}, "admin": {"admin_keys": ["k"]}, "etcd": {"endpoints": ["a"]}}


def settings(text: str) -> Settings:
    document = load(text)
    assert isinstance(document, dict)
    return build({**LEAST, **document}, {"OWN_ADMIN": "x", "OWN_PASSWORD": "y"}).settings


VAULT = """
secrets:
  providers:
    - {id: main, manager: vault, options: {uri: "http://127.0.0.1:8200", auth: {method: token, token: canary-token}}}
    - {id: main, manager: aws, options: {region: eu-west-1}}
"""


def test_they_are_resources() -> None:
    loaded = settings(VAULT)
    assert [provider.identity for provider in configured(loaded)] == ["vault/main", "aws/main"]
    assert "canary" not in repr(loaded)


WRONG = [
    ("{id: main, manager: vault, options: {}}", "secrets.providers[0]", "required"),
    (
        "{id: 'a/b', manager: aws, options: {}}",
        "secrets.providers[0].id",
        "does not match",
    ),
    (
        "{id: a, manager: aws, options: {access_key_id: canary}}",
        "secrets.providers[0].options.secret_access_key",
        "go together",
    ),
    ("{id: a, manager: aws, options: {regoin: x}}", "secrets.providers[0].options.regoin", "unknown"),
    (
        "{id: a, manager: vault, options: {uri: 'http://u:canary@h', auth: {method: token, token: t}}}",
        "secrets.providers[0].options.uri",
        "does not match",
    ),
    (
        "{id: a, manager: vault, options: {uri: 'http://h', auth: {method: token, token: '$secret://vault/a/b/c'}}}",
        "secrets.providers[0].options.auth.token",
        "only",
    ),
    (
        "{id: a, manager: vault, options: {uri: 'http://h', auth: {method: token, token: 'enc:v1:k1:canary'}}}",
        "secrets.providers[0].options.auth.token",
        "is an encrypted value",
    ),
]


@pytest.mark.parametrize(("provider", "path", "reason"), WRONG)
def test_what_is_wrong_is_told_by_its_path(provider: str, path: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as refused:
        configured(settings(f"secrets:\n  providers:\n    - {provider}\n"))
    assert path in [problem.path for problem in refused.value.problems]
    assert "canary" not in str(refused.value)


def test_the_gateways_own_variables() -> None:
    text = """
admin: {admin_keys: [{name: a, key_env: OWN_ADMIN}]}
etcd: {endpoints: [a], user: u, password_env: OWN_PASSWORD}
secrets: {keyring: [{id: k1, env: OWN_KEY}], env_allow: ["*"]}
"""
    loaded = settings(text)
    assert own_variables(loaded) == {"OWN_ADMIN", "OWN_PASSWORD", "OWN_KEY"}
    policy = env_policy(loaded)
    assert policy.refusal("OTHER") is None
    assert all(policy.refusal(name) for name in own_variables(loaded))
