"""Every manager that a row may name has a client, and no other has."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from aisix_common.resources import SECRET_PROVIDERS, check
from aisix_common.secrets.reference import MANAGERS
from aisix_proxy.secret_managers.registry import MAKERS

from .scripted_api import context

GUIDE: Final = Path(__file__).resolve().parents[3] / "docs/guides/secret-managers.md"
EXAMPLES: Final = re.findall(r"^```json\n(.*?)^```", GUIDE.read_text(), re.M | re.S)

PROVIDERS: list[dict[str, Any]] = [
    {"manager": "vault", "uri": "https://vault.test", "auth": {"method": "token", "token": "t"}},
    {"manager": "aws"},
    {"manager": "azure", "vault_url": "https://team.vault.azure.net"},
    {"manager": "gcp", "project_id": "team"},
    {
        "manager": "kubernetes",
        "namespaces": ["*"],
        "names": ["*"],
        "apiserver": "https://cluster.test",
        "token": "t",
    },
]


def test_the_managers_are_those_of_references() -> None:
    assert set(MAKERS) == set(MANAGERS) == {provider["manager"] for provider in PROVIDERS}


@pytest.mark.parametrize("document", PROVIDERS, ids=lambda document: document["manager"])
async def test_making_a_client_opens_nothing(document: dict[str, Any]) -> None:
    provider = check(SECRET_PROVIDERS, {"name": "main", **document})
    client = MAKERS[document["manager"]](provider, context())
    await client.aclose()


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_the_guide_are_providers(example: str) -> None:
    check(SECRET_PROVIDERS, json.loads(example))


def test_the_guide_has_an_example_for_each_manager() -> None:
    assert {json.loads(example)["manager"] for example in EXAMPLES} == set(MANAGERS)
