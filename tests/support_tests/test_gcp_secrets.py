"""The Google of the tests: Google's own library gets along with it, and what it must refuse it does."""

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
import pytest_asyncio
import requests
from google.auth import identity_pool
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from tests.support.doubles import signing_key
from tests.support.gcp_secrets import GcpSecrets, crc32c, gcp_secrets
from tests.support.google_tokens import ACCESS_TOKEN, CLOUD_PLATFORM, EXCHANGE_GRANT, JWT_GRANT


@pytest_asyncio.fixture
async def gcp(tmp_path: Path) -> AsyncIterator[GcpSecrets]:
    async with gcp_secrets(tmp_path) as running:
        yield running


@pytest_asyncio.fixture
async def session(gcp: GcpSecrets) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=gcp.ca))
    async with aiohttp.ClientSession(connector=connector) as opened:
        yield opened


def assertion(
    gcp: GcpSecrets,
    *,
    signer: str = "service account",
    kid: str = "",
    begins: int = 0,
    ends: int = 3600,
    **changed: object,
) -> str:
    """An assertion of the service account, its times in seconds from now."""
    now = int(time.time())
    own = {"iss": gcp.tokens.email, "scope": CLOUD_PLATFORM, "aud": gcp.tokens.token_uri}
    claims = {**own, "iat": now + begins, "exp": now + ends, **changed}
    return jwt.encode(claims, signing_key(signer), "RS256", {"kid": kid or gcp.tokens.key_id})


async def ask(session: aiohttp.ClientSession, url: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
    async with session.post(url, data=form) as answer:
        return answer.status, await answer.json()


async def bearer(gcp: GcpSecrets, session: aiohttp.ClientSession) -> dict[str, str]:
    form = {"grant_type": JWT_GRANT, "assertion": assertion(gcp)}
    _, document = await ask(session, gcp.tokens.token_uri, form)
    return {"Authorization": f"Bearer {document['access_token']}"}


async def access(
    gcp: GcpSecrets, session: aiohttp.ClientSession, path: str, headers: dict[str, str]
) -> tuple[int, Any]:
    """The status, and the error's name or the secret's payload."""
    url = f"{gcp.url}/v1/projects/{gcp.project_id}/secrets/{path}:access"
    async with session.get(url, headers=headers) as answer:
        document = await answer.json()
        return answer.status, document["error"]["status"] if "error" in document else document["payload"]


@pytest.mark.parametrize("way", ["key", "self-signed", "federation", "impersonation"])
async def test_googles_library_gets_tokens_that_open_secrets(
    gcp: GcpSecrets, session: aiohttp.ClientSession, tmp_path: Path, way: str
) -> None:
    gcp.put("openai", "sk-1")
    file = tmp_path / "token"
    file.write_text(gcp.tokens.workload_token())
    scopes = [CLOUD_PLATFORM]

    def refreshed() -> str:
        trusting = requests.Session()
        trusting.verify, trusting.trust_env = str(gcp.ca_file), False
        if way in ("key", "self-signed"):
            info = json.loads(gcp.tokens.service_account())
            credentials: Any = service_account.Credentials.from_service_account_info(info, scopes=scopes)  # type: ignore[no-untyped-call]
            credentials = credentials.with_always_use_jwt_access(way == "self-signed")
        else:
            info = json.loads(gcp.tokens.external_account(file, impersonate=way == "impersonation"))
            credentials = identity_pool.Credentials.from_info(info, scopes=scopes)  # type: ignore[no-untyped-call]
        credentials.refresh(Request(trusting))
        return str(credentials.token)

    headers = {"Authorization": f"Bearer {await asyncio.to_thread(refreshed)}"}
    status, payload = await access(gcp, session, "openai/versions/latest", headers)
    assert (status, base64.b64decode(payload["data"])) == (200, b"sk-1")


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({}, None),
        ({"signer": "a stranger"}, "Invalid JWT Signature."),
        ({"kid": "another"}, "Invalid JWT Signature."),
        ({"iss": "nobody@example.test"}, "account not found"),
        ({"aud": "https://elsewhere.test/token"}, "audience"),
        ({"begins": -3600, "ends": -1}, "short-lived"),
        ({"ends": 7200}, "short-lived"),
        ({"begins": 1000, "ends": 2000}, "short-lived"),
        ({"scope": ""}, "scope"),
    ],
)
async def test_an_assertion_is_checked(
    gcp: GcpSecrets, session: aiohttp.ClientSession, changed: dict[str, Any], error: str | None
) -> None:
    form = {"grant_type": JWT_GRANT, "assertion": assertion(gcp, **changed)}
    status, document = await ask(session, gcp.tokens.token_uri, form)
    assert status == (200 if error is None else 400)
    assert (error or "") in document.get("error_description", "")


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({}, None),
        ({"signer": "a stranger"}, "invalid_grant"),
        ({"iss": "https://elsewhere.test"}, "invalid_grant"),
        ({"aud": "https://kubernetes.default.svc"}, "invalid_grant"),
        ({"lifetime": -1.0}, "invalid_grant"),
        ({"sub": "system:serviceaccount:aisix:other"}, "unauthorized_client"),
    ],
)
async def test_a_subject_token_is_checked(
    gcp: GcpSecrets, session: aiohttp.ClientSession, claims: dict[str, Any], error: str | None
) -> None:
    form = {
        "grant_type": EXCHANGE_GRANT,
        "audience": gcp.tokens.pool,
        "scope": CLOUD_PLATFORM,
        "requested_token_type": ACCESS_TOKEN,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "subject_token": gcp.tokens.workload_token(**claims),
    }
    status, document = await ask(session, f"{gcp.tokens.origin}/v1/token", form)
    assert (status, document.get("error")) == (200 if error is None else 400, error)


async def test_the_metadata_server_gives_tokens_to_who_asks_rightly(
    gcp: GcpSecrets, session: aiohttp.ClientSession
) -> None:
    gcp.put("openai", "sk-1")
    base = f"http://{gcp.tokens.metadata_host}/computeMetadata/v1/instance/service-accounts"
    marked = {"Metadata-Flavor": "Google"}
    for headers, account, status in (
        ({}, "default", 403),
        ({**marked, "X-Forwarded-For": "10.0.0.1"}, "default", 403),
        (marked, "another", 404),
        (marked, "default", 200),
    ):
        async with session.get(f"{base}/{account}/token", headers=headers) as answer:
            assert (answer.status, answer.headers["Metadata-Flavor"]) == (status, "Google")
            document = await answer.json() if status == 200 else {}
    bearer = {"Authorization": f"Bearer {document['access_token']}"}
    assert (await access(gcp, session, "openai/versions/1", bearer))[0] == 200


async def test_versions_states_and_permissions(gcp: GcpSecrets, session: aiohttp.ClientSession) -> None:
    headers = await bearer(gcp, session)
    assert [gcp.put("openai", data) for data in ("one", b"\x00two")] == [1, 2]
    gcp.alias("openai", "prod", 1)

    async def got(version: str, name: str = "openai") -> tuple[int, object]:
        status, payload = await access(gcp, session, f"{name}/versions/{version}", headers)
        return status, base64.b64decode(payload["data"]) if status == 200 else payload

    assert await got("latest") == (200, b"\x00two")
    assert await got("1") == await got("prod") == (200, b"one")
    assert await got("3") == await got("1", "nothing") == (404, "NOT_FOUND")
    gcp.set_state("openai", 2, "DISABLED")
    assert await got("latest") == (400, "FAILED_PRECONDITION")
    assert (await access(gcp, session, "openai/versions/1", {}))[0] == 401
    gcp.permissions.discard("access")
    assert await got("1") == (403, "PERMISSION_DENIED")
    gcp.permissions.add("access")
    gcp.faults.add(429)
    assert await got("1") == (429, "RESOURCE_EXHAUSTED")
    gcp.tokens.revoke()
    assert await got("1") == (401, "UNAUTHENTICATED")


async def test_tokens_end(tmp_path: Path) -> None:
    clock = [time.time()]
    async with gcp_secrets(tmp_path, now=lambda: clock[0]) as gcp:
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=gcp.ca))
        async with aiohttp.ClientSession(connector=connector) as session:
            gcp.put("openai", "sk-1")
            gcp.tokens.token_lifetime = 60
            headers = await bearer(gcp, session)
            for later, status in ((59, 200), (1, 401)):
                clock[0] += later
                assert (await access(gcp, session, "openai/versions/1", headers))[0] == status


async def test_the_checksum_is_of_the_data(gcp: GcpSecrets, session: aiohttp.ClientSession) -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the catalogue of CRC algorithms
    gcp.put("openai", "sk-1")
    headers = await bearer(gcp, session)
    for corrupt in (False, True):
        gcp.corrupt = corrupt
        _, payload = await access(gcp, session, "openai/versions/1", headers)
        assert (int(payload["dataCrc32c"]) == crc32c(b"sk-1")) is not corrupt
