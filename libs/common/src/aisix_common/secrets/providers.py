"""The secret managers named in config.yaml, as the resources they would be in etcd; and what of the environment is the
gateway's own. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from aisix_common.errors import ConfigurationError, Problem
from aisix_common.resources import SECRET_PROVIDERS, Refused, SecretProvider, check
from aisix_common.resources.concealed import secrets_in
from aisix_common.secret import is_sealed
from aisix_common.settings import Settings
from aisix_common.settings.listeners import AdminKey

from .environment import EnvPolicy


def configured(settings: Settings) -> Sequence[SecretProvider]:
    """`secrets.providers`, typed. Raises ConfigurationError with everything that is wrong."""
    found: list[SecretProvider] = []
    problems: list[Problem] = []
    for place, provider in enumerate(settings.secrets.providers):
        path = f"secrets.providers[{place}]"
        document: dict[str, Any] = {**provider.options, "name": provider.id, "manager": provider.manager}
        try:
            value = check(SECRET_PROVIDERS, document)
        except Refused as refused:
            problems += [Problem(_below(path, problem.path), problem.reason) for problem in refused.problems]
            continue
        found.append(value)
        problems += [
            Problem(_below(path, ".".join(map(str, at))), "is an encrypted value, which opens only where it was stored")
            for at, secret in secrets_in(value)
            if is_sealed(secret.stored or "")
        ]
    if problems:
        raise ConfigurationError(problems)
    return found


def env_policy(settings: Settings) -> EnvPolicy:
    """What `$env://` references may read with these settings."""
    secrets, managed = settings.secrets, settings.managed.enabled
    return EnvPolicy(secrets.env_allow, own_variables(settings), enabled=not managed or secrets.env_in_managed)


def own_variables(settings: Settings) -> frozenset[str]:
    """Variables that hold secrets of the gateway itself, whatever they are called."""
    names = [key.env for key in settings.secrets.keyring]
    names += [key.key_env for key in settings.admin.admin_keys if isinstance(key, AdminKey)]
    return frozenset(name for name in (*names, settings.etcd.password_env) if name)


def _below(path: str, field: str) -> str:
    """Where a provider's field stands in config.yaml."""
    top: Mapping[str, str] = {"name": "id", "manager": "manager"}
    return path if not field else f"{path}.{top[field]}" if field in top else f"{path}.options.{field}"
