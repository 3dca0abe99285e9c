"""aiobotocore behind AWS Secrets Manager: what goes wrong on the way, and whose connections are used."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from aisix_common.resources.secret_providers import Aws
from aisix_common.secret import Secret
from aisix_proxy.secret_managers.aws import AwsClient
from aisix_proxy.secret_managers.base import Away, NoSuchSecret, Refused, Unresolved, Unusable

from .scripted_api import Asked, context, scripted_api
from tests.support.etcd import free_port
from tests.support.moto_aws import MotoAws

CANARY = "sk-canary-93fe"


def _client(endpoint: str, timeout: float = 30.0) -> AwsClient:
    provider = Aws(
        "main",
        endpoint_url=endpoint,
        access_key_id=Secret("AKIA"),
        secret_access_key=Secret(CANARY),
        session_token=Secret("token-1"),
    )
    return AwsClient(provider, context(timeout=timeout))


ANSWERS: list[tuple[int, object, type[Unresolved], str]] = [
    (400, {"__type": "ResourceNotFoundException"}, NoSuchSecret, "no secret of this name"),
    (400, {"__type": "InvalidRequestException"}, NoSuchSecret, "marked for deletion"),
    (400, {"__type": "AccessDeniedException", "message": CANARY}, Refused, "AccessDeniedException"),
    (400, {"__type": "com.amazon#UnrecognizedClientException"}, Refused, "access key is unknown"),
    (400, {"__type": "ThrottlingException"}, Away, "throttles"),
    (500, {"__type": "InternalServiceError"}, Away, "InternalServiceError"),
    (503, CANARY.encode(), Away, "fails"),
    (200, b"<html>sk-canary-93fe</html>", Away, "is not the API"),
    (200, {"ARN": "arn", "Name": "openai"}, NoSuchSecret, "no value"),
    (200, {"ARN": "arn", "SecretString": ""}, NoSuchSecret, "empty"),
    (307, b"", Refused, "HTTP status 307"),
    (404, b"<html></html>", Refused, "HTTP status 404"),
]


async def test_answers_have_their_kind() -> None:
    async with scripted_api() as elsewhere, scripted_api() as api:
        client = _client(api.address)
        for status, body, kind, says in ANSWERS:
            api.asked.clear()
            api.says(status, body, {"Location": elsewhere.address})
            with pytest.raises(Unresolved, match=says) as caught:
                await client.fetch(["openai"])
            assert type(caught.value) is kind, (status, body)
            assert CANARY not in str(caught.value)
            assert len(api.asked) == 1, "when to ask again is the cache's to say"
        await client.aclose()
    assert elsewhere.asked == []


async def test_requests_are_signed_and_ask_for_the_current_version() -> None:
    async with scripted_api() as api:
        api.says(200, {"ARN": "arn", "SecretString": "sk-1"})
        client = _client(api.address)
        assert (await client.fetch(["openai"])).value.reveal() == "sk-1"
        await client.aclose()
    [asked] = api.asked
    assert asked.headers["X-Amz-Target"] == "secretsmanager.GetSecretValue"
    assert asked.headers["X-Amz-Security-Token"] == "token-1"
    assert "/us-east-1/secretsmanager/aws4_request" in asked.headers["Authorization"]
    assert json.loads(asked.body) == {"SecretId": "openai"}


async def test_a_probe_that_is_refused_says_what_it_asked_for() -> None:
    async with scripted_api() as api:
        api.says(400, {"__type": "AccessDeniedException"})
        client = _client(api.address)
        with pytest.raises(Refused, match="a policy that names single secrets refuses aisix-probe/no-such-secret"):
            await client.probe()
        await client.aclose()


@pytest.mark.parametrize(
    ("endpoint", "kind", "says"),
    [
        ("http://127.0.0.1:{closed}", Away, "connection refused"),
        ("http://169.254.169.254", Away, "link-local or a cloud's metadata service"),
        ("http://no-such-host.invalid", Away, "leads to no address"),
        ("http://a_b:99999999", Unusable, "endpoint_url"),
    ],
)
async def test_addresses_are_checked_and_failures_told(endpoint: str, kind: type[Unresolved], says: str) -> None:
    client = _client(endpoint.format(closed=free_port()))
    with pytest.raises(Unresolved, match=says) as caught:
        await client.fetch(["openai"])
    await client.aclose()
    assert type(caught.value) is kind


async def test_silence_is_away() -> None:
    async def silent(asked: Asked) -> web.StreamResponse:
        await asyncio.sleep(3600)
        raise AssertionError

    async with scripted_api() as api:
        api.answer = silent
        client = _client(api.address, timeout=0.3)
        with pytest.raises(Away, match="did not answer"):
            await client.fetch(["openai"])
        await client.aclose()


FETCH = """
import asyncio, os, sys
from aisix_common.resources.secret_providers import Aws
from aisix_proxy.secret_managers.aws import AwsClient
from aisix_proxy.secret_managers.base import Unresolved
from tests.proxy.secret_managers.scripted_api import context

async def fetched():
    client = AwsClient(Aws("main", endpoint_url=sys.argv[1]), context(timeout=30))
    try:
        print((await client.fetch(["ambient"])).value.reveal())
    except Unresolved as error:
        print(type(error).__name__, error)
    await client.aclose()

async def main():
    await fetched()
    os.environ["AWS_ENDPOINT_URL_STS"] = sys.argv[2]
    await fetched()
    del os.environ["AWS_WEB_IDENTITY_TOKEN_FILE"]
    await fetched()

asyncio.run(main())
"""


@pytest.mark.slow  # a process that loads the vendor's library
def test_without_keys_the_default_chain_is_used(moto_aws: MotoAws, tmp_path: Path) -> None:
    moto_aws.put_secret("ambient", "sk-ambient")
    (token := tmp_path / "token").write_text("header.payload.signature")
    # In a process of its own: botocore reads the environment of its process.
    environ = {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nowhere",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/gateway",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        "AWS_ENDPOINT_URL_STS": moto_aws.endpoint,
    }
    command = [sys.executable, "-c", FETCH, moto_aws.endpoint, f"http://127.0.0.1:{free_port()}"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=50, check=True)
    with_identity, sts_away, without = done.stdout.splitlines()
    assert with_identity == "sk-ambient"
    assert sts_away.startswith("Away"), "which says nothing against what was had before"
    assert "connection refused" in sts_away
    assert without.startswith("Refused")
    assert "no credentials in the default chain" in without
