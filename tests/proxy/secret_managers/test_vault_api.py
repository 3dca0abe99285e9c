"""What all paths of Vault's API have in common. The statuses are tried where they matter, in test_vault.py."""

import pytest

from aisix_proxy.secret_managers.base import Away
from aisix_proxy.secret_managers.rest import Rest
from aisix_proxy.secret_managers.vault_api import VaultApi

from .scripted_api import ScriptedApi, context, scripted_api

CANARY = "sk-canary-18d2"


def _api(server: ScriptedApi, namespace: str | None = None) -> VaultApi:
    return VaultApi(server.address, namespace, Rest("Vault", context()))


async def test_a_path_is_encoded_segment_by_segment() -> None:
    async with scripted_api() as server:
        server.says(204)
        api = _api(server)
        assert (await api.call("POST", "a/b c/ü?#%2f", document={})).good
        await api.aclose()
    assert server.paths == ["POST /v1/a/b%20c/%C3%BC%3F%23%252f"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"errors": ["One", "Two"]}, "one two"),
        ({"errors": []}, ""),
        ({"request_id": "1", "data": None, "warnings": ["Invalid path"]}, "invalid path"),
        ({"request_id": "1", "errors": None, "warnings": None}, ""),
    ],
)
async def test_what_vault_said_is_there_to_be_looked_through_but_not_shown(body: object, said: str) -> None:
    async with scripted_api() as server:
        server.says(404, body)
        api = _api(server)
        answer = await api.call("GET", "a")
        await api.aclose()
    assert (answer.good, answer.said) == (False, said)
    assert "one" not in repr(answer)


@pytest.mark.parametrize("body", [{}, [], "text", {"errors": "text"}, {"errors": [1]}])
async def test_a_refusal_that_is_not_vaults_takes_nothing_away(body: object) -> None:
    async with scripted_api() as server:
        server.says(404, body)
        api = _api(server)
        with pytest.raises(Away, match="is not Vault's API"):
            await api.call("GET", "a")
        await api.aclose()


async def test_without_a_token_or_a_namespace_no_header_of_theirs_is_sent() -> None:
    async with scripted_api() as server:
        server.says(200, {})
        api = _api(server)
        await api.call("POST", "auth/approle/login", document={"role_id": CANARY})
        await api.aclose()
    [asked] = server.asked
    assert "X-Vault-Token" not in asked.headers
    assert "X-Vault-Namespace" not in asked.headers
    assert asked.body == b'{"role_id":"sk-canary-18d2"}'
