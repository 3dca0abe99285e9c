"""Google Secret Manager, against a double of its API, and of where its tokens come from."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from aisix_common.clock import SYSTEM_CLOCK
from aisix_common.outbound import open_session
from aisix_common.outbound.addresses import Reach
from aisix_common.outbound.guard import Guard
from aisix_common.resources.secret_providers import Gcp
from aisix_common.secret import Secret
from aisix_proxy.secret_managers.base import Away, Context, NoSuchSecret, Refused, Unresolved, Unusable
from aisix_proxy.secret_managers.gcp import GcpClient, content, refusal, resource, service_account
from aisix_proxy.secret_managers.rest import Reply

from .scripted_api import context, scripted_api
from tests.support.gcp_secrets import GcpSecrets, gcp_secrets

CANARY = "sk-canary-71c2"
KEY = {"type": "service_account", "client_email": "a@b", "private_key": CANARY, "token_uri": "https://t.example/x"}


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        ("openai", "secrets/openai/versions/latest"),
        ("open_ai-1@7", "secrets/open_ai-1/versions/7"),
        ("openai@prod", "secrets/openai/versions/prod"),
        ("openai@", None),
        ("open.ai", None),
        ("openai@7:access", None),
        ("a" * 256, None),
    ],
)
def test_names_and_versions(segment: str, expected: str | None) -> None:
    assert resource(segment) == expected


def _reply(status: int, body: object) -> Reply:
    return Reply("X", status, body if isinstance(body, bytes) else json.dumps(body).encode())


def _error(status: str, **detail: str) -> object:
    return {"error": {"status": status, "message": CANARY, "details": [{"@type": "x", **detail}]}}


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (404, _error("NOT_FOUND"), NoSuchSecret, "no secret of this name"),
        (404, b"<html>", Away, "is not the API"),
        (400, _error("FAILED_PRECONDITION"), NoSuchSecret, "disabled or destroyed"),
        (400, _error("INVALID_ARGUMENT"), Refused, "INVALID_ARGUMENT"),
        (401, _error("UNAUTHENTICATED"), Refused, "token"),
        (403, _error("PERMISSION_DENIED", reason="SERVICE_DISABLED"), Refused, "SERVICE_DISABLED"),
        (403, _error("PERMISSION_DENIED", reason=CANARY), Refused, "PERMISSION_DENIED"),
        (429, _error("RESOURCE_EXHAUSTED"), Away, "throttles"),
        (500, b"", Away, "fails"),
        (302, b"", Away, "HTTP status 302"),
    ],
)
def test_errors_have_their_kind(status: int, body: object, kind: type[Unresolved], says: str) -> None:
    error = refusal(_reply(status, body))
    assert type(error) is kind
    assert says in str(error)
    assert CANARY not in str(error)


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (b"<html>", Away, "API"),
        ({"payload": {"data": "c2stMQ=="}}, Away, "API"),
        ({"name": "n", "payload": {"data": "sk"}}, Away, "base64"),
        ({"name": "n", "payload": {"data": "c2stMQ==", "dataCrc32c": "1"}}, Away, "damaged"),
        ({"name": "n", "payload": {"data": "//4="}}, NoSuchSecret, "not UTF-8"),
    ],
)
def test_answers_that_are_no_secret(body: object, kind: type[Unresolved], says: str) -> None:
    with pytest.raises(Unresolved, match=says) as caught:
        content(_reply(200, body))
    assert type(caught.value) is kind


def test_a_checksum_may_be_left_out() -> None:
    assert content(_reply(200, {"name": "n", "payload": {"data": "c2stMQ=="}})) == "sk-1"


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (CANARY, "must hold the JSON key"),
        (json.dumps([CANARY]), "must hold the JSON key"),
        (json.dumps({**KEY, "type": "external_account"}), "must hold the JSON key"),
        (json.dumps({**KEY, "token_uri": "http://t.example/x"}), "token_uri that is neither"),
        (json.dumps({**KEY, "token_uri": "file:///etc/passwd"}), "token_uri that is neither"),
        (json.dumps({**KEY, "token_uri": "http://[x"}), "token_uri that is neither"),
        (json.dumps({"type": "service_account", "private_key": CANARY}), "without client_email, token_uri"),
    ],
)
def test_service_accounts_that_cannot_be_used(document: str, says: str) -> None:
    with pytest.raises(Unusable, match=says) as caught:
        service_account(Secret(document))
    assert CANARY not in str(caught.value)


def test_nothing_of_a_service_account_is_taken_that_is_not_wanted() -> None:
    assert service_account(Secret(json.dumps({**KEY, "universe_domain": "evil.example"}))) == {
        name: value for name, value in KEY.items() if name != "type"
    }


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://secretmanager.example",
        "http://secretmanager.googleapis.com",
        "https://googleapis.com.evil.example",
        "https://evil.example/.googleapis.com",
    ],
)
def test_the_pods_identity_goes_to_google_alone(endpoint: str) -> None:
    with pytest.raises(Unusable, match="endpoint_url needs a service_account"):
        GcpClient(Gcp("main", "team", endpoint_url=endpoint), context())


@pytest.fixture
async def gcp(tmp_path: Path) -> AsyncIterator[GcpSecrets]:
    async with gcp_secrets(tmp_path) as gcp:
        gcp.put("openai", "sk-1")
        gcp.put("several", '{"one": "sk-one"}')
        yield gcp


def _client(gcp: GcpSecrets, timeout: float = 30.0, **changed: object) -> GcpClient:
    trusting: Context = replace(
        context(timeout=timeout),
        open_session=lambda ca_pem: open_session(Guard(Reach.OPERATOR), gcp.ca, timeout=timeout),
        clock=SYSTEM_CLOCK,
    )
    account = Secret(gcp.tokens.service_account(**changed))
    return GcpClient(Gcp("main", gcp.project_id, account, gcp.url), trusting)


async def test_secrets_are_found_with_a_service_account(gcp: GcpSecrets) -> None:
    client = _client(gcp)
    await client.probe()
    assert (await client.fetch(["openai"])).value.reveal() == "sk-1"
    assert (await client.fetch(["several", "one"])).value.reveal() == "sk-one"
    gcp.put("openai", "sk-rotated")
    gcp.alias("openai", "old", 1)
    assert (await client.fetch(["openai"])).value.reveal() == "sk-rotated"
    assert (await client.fetch(["openai@1"])).value.reveal() == "sk-1"
    assert (await client.fetch(["openai@old"])).value.reveal() == "sk-1"
    assert len(gcp.tokens.seen) == 1, "one token does for all"
    gcp.tokens.revoke()
    assert (await client.fetch(["openai"])).value.reveal() == "sk-rotated", "a new token is had"
    await client.aclose()


async def test_there_is_no_such_secret(gcp: GcpSecrets) -> None:
    client = _client(gcp)
    for name in ("missing", "openai@9", "open.ai"):
        with pytest.raises(NoSuchSecret, match="no s"):
            await client.fetch([name])
    gcp.set_state("openai", 1, "DISABLED")
    with pytest.raises(NoSuchSecret, match="disabled or destroyed"):
        await client.fetch(["openai"])
    await client.aclose()


async def test_what_keeps_the_gateway_out_is_told(gcp: GcpSecrets) -> None:
    client = _client(gcp)
    gcp.permissions.discard("access")
    with pytest.raises(Refused, match=r"IAM_PERMISSION_DENIED.*secretAccessor"):
        await client.fetch(["openai"])
    with pytest.raises(Refused, match="IAM_PERMISSION_DENIED"):
        await client.probe()
    await client.aclose()


async def test_a_secret_that_was_damaged_is_not_used(gcp: GcpSecrets) -> None:
    gcp.corrupt = True
    client = _client(gcp)
    with pytest.raises(Away, match="damaged"):
        await client.fetch(["openai"])
    await client.aclose()


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_failures_of_the_service_are_away(gcp: GcpSecrets, status: int) -> None:
    client = _client(gcp)
    gcp.faults.add(status)
    with pytest.raises(Away):
        await client.fetch(["openai"])
    await client.aclose()


async def test_silence_is_away(gcp: GcpSecrets) -> None:
    client = _client(gcp, timeout=0.3)
    gcp.faults.add(hang=True)
    with pytest.raises(Away, match="did not answer"):
        await client.fetch(["openai"])
    await client.aclose()


async def test_a_token_that_is_never_taken_is_exchanged_once(tmp_path: Path, gcp: GcpSecrets) -> None:
    async with scripted_api() as api:
        api.says(401, {"error": {"status": "UNAUTHENTICATED"}})
        gcp.url = api.address
        client = _client(gcp)
        with pytest.raises(Refused, match="does not take the identity's token"):
            await client.fetch(["openai"])
        await client.aclose()
    assert (len(api.asked), len(gcp.tokens.seen)) == (2, 2)
