"""Nothing secret is in what is rendered: not in ConfigMaps, variables, NOTES or refusals. What can be
a secret and is written into values in the open is refused, and the refusal does not repeat it."""

import re
from typing import Any, Final

import pytest
import yaml

from aisix_common.secret import Secret
from aisix_common.settings.schema import Settings
from aisix_common.settings.walker import leaves, shape

from .matrix import SETS
from .rendering import CHART, RenderFailed, notes, render, texts
from .test_chart_settings import nested

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CANARY: Final = "canary-7f3a9c"

SECRET_LOOKING: Final = (
    re.compile(r"-----BEGIN [A-Z ]*(PRIVATE KEY|CERTIFICATE)"),
    re.compile(r"\bsk-[A-Za-z0-9_-]{16,}"),
    re.compile(r"\badmin-[A-Za-z0-9_-]{24,}"),
    re.compile(r"\bey[A-Za-z0-9_-]{10,}\.ey[A-Za-z0-9_-]{10,}\."),
    re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}=(?![=A-Za-z0-9+/])"),
    re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    re.compile(r"://[^/@\s\"']+:[^/@\s\"']+@"),
)
NO_SECRETS: Final = re.compile(r"(_FILE|_NAME|_PATH|^ETCD_INITIAL_CLUSTER_TOKEN)$")
"""Where a secret is; and what tells etcd clusters apart."""

SECRET_NAMED: Final = re.compile(r"(PASSWORD|TOKEN|SECRET|_KEY|CREDENTIAL)", re.IGNORECASE)


@pytest.mark.parametrize("values", SETS)
def test_no_secret_of_the_chart_has_content(values: str) -> None:
    held = [
        item["metadata"]["name"]
        for item in render(SETS[values]).of("Secret")
        if item.get("data") or item.get("stringData")
    ]
    assert held == []


@pytest.mark.parametrize("values", SETS)
def test_nothing_that_is_rendered_looks_like_a_secret(values: str) -> None:
    rendered = render(SETS[values])
    for item in rendered.objects:
        for text in texts(item):
            for pattern in SECRET_LOOKING:
                assert not pattern.search(text), f"{item['kind']}/{item['metadata']['name']}: {pattern.pattern}"


@pytest.mark.parametrize("values", SETS)
def test_variables_that_hold_secrets_come_from_secrets(values: str) -> None:
    for pod in render(SETS[values]).pods():
        for container in pod.containers:
            for variable in container.get("env", []):
                if SECRET_NAMED.search(variable["name"]) and not NO_SECRETS.search(variable["name"]):
                    assert "value" not in variable, f"{pod.owner}: {variable['name']}"


TEMPLATES: Final = {
    str(file.relative_to(CHART)): file.read_text()
    for file in sorted((CHART / "templates").rglob("*"))
    if file.is_file()
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_template_makes_a_secret_up_or_looks_one_up(template: str) -> None:
    """`lookup` is empty wherever the chart is rendered without a cluster: what it guards would be made anew."""
    code = re.sub(r"\{\{-?\s*/\*.*?\*/\s*-?\}\}", "", TEMPLATES[template], flags=re.DOTALL)
    assert re.findall(r"\b(lookup|rand[A-Z]\w+|gen[A-Z]\w+|derivePassword|uuidv4|htpasswd|now)\b(?=[ )])", code) == []


SECRET_SETTINGS: Final = sorted(path for path, field in leaves(Settings) if shape(field.type).type is Secret)


def test_the_settings_that_hold_secrets_are_known() -> None:
    assert {"managed.cp_key_pem", "managed.bootstrap.token", "cache.redis.password"} <= set(SECRET_SETTINGS)


@pytest.mark.parametrize("path", SECRET_SETTINGS)
def test_a_secret_under_config_is_refused_and_not_repeated(path: str) -> None:
    value = f"redis://user:{CANARY}@redis.example.com" if path.endswith(".url") else CANARY
    refused({**SETS["managed-token" if path.startswith("managed.") else "default"], "config": nested({path: value})})


@pytest.mark.parametrize(
    "values",
    [
        {"config": {"admin": {"admin_keys": [CANARY]}}},
        {"config": {"secrets": {"providers": [{"id": "v", "manager": "vault", "options": {"token": CANARY}}]}}},
        {
            "config": {
                "secrets": {"providers": [{"id": "v", "manager": "vault", "options": {"auth": {"secret_id": CANARY}}}]}
            }
        },
        {
            "config": {
                "secrets": {"providers": [{"id": "a", "manager": "aws", "options": {"secret_access_key": CANARY}}]}
            }
        },
        {"proxy": {"extraEnv": [{"name": "AISIX_SECRET_OPENAI", "value": CANARY}]}},
        {"proxy": {"extraEnv": [{"name": "AWS_SECRET_ACCESS_KEY", "value": CANARY}]}},
        {"proxy": {"extraEnv": [{"name": "AISIX_CACHE__REDIS__PASSWORD", "value": CANARY}]}},
        {"admin": {"extraEnv": [{"name": "AISIX_ADMIN__ADMIN_KEYS", "value": CANARY}]}},
        {"admin": {"adminKey": CANARY}},
        {"etcd": {"external": {"password": CANARY}}},
    ],
    ids=str,
)
def test_a_secret_in_any_other_value_is_refused_and_not_repeated(values: dict[str, Any]) -> None:
    refused(values)


@pytest.mark.parametrize("values", SETS)
def test_notes_name_secrets_and_hold_none(values: str) -> None:
    said = notes(SETS[values])
    assert "kubectl" in said
    for pattern in SECRET_LOOKING:
        assert not pattern.search(said), pattern.pattern


def refused(values: dict[str, Any]) -> None:
    with pytest.raises(RenderFailed) as refusal:
        render(values)
    assert CANARY not in str(refusal.value), "the refusal repeats the secret"
    assert yaml.safe_dump(values).count(CANARY) == 1
