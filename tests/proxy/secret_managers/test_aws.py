"""AWS Secrets Manager: how paths are read, and what its answers mean. The calls themselves: test_aws_calls."""

import pytest

from aisix_common.resources.secret_providers import Aws
from aisix_common.secret import Secret
from aisix_proxy.secret_managers.aws import AwsClient, readings, refusal
from aisix_proxy.secret_managers.base import Away, NoSuchSecret, Refused, Unresolved, Unusable

from .scripted_api import SetClock, context
from tests.support.moto_aws import MotoAws


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("openai", [("openai", None)]),
        ("a/b/c", [("a/b/c", None), ("a/b", "c"), ("a", "b/c")]),
        ("a/b,c", [("a", "b,c")]),
        ("arn:aws:secretsmanager:r:1:secret:n-x", [("arn:aws:secretsmanager:r:1:secret:n-x", None)]),
        ("a,b", []),
    ],
)
def test_the_longest_name_comes_first(path: str, expected: list[tuple[str, str | None]]) -> None:
    assert list(readings(path.split("/"))) == expected


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ResourceNotFoundException", 400, NoSuchSecret),
        ("InvalidRequestException", 400, NoSuchSecret),
        ("AccessDeniedException", 400, Refused),
        ("UnrecognizedClientException", 400, Refused),
        ("ExpiredTokenException", 400, Refused),
        ("InvalidSignatureException", 400, Refused),
        ("DecryptionFailure", 400, Refused),
        ("InvalidParameterException", 400, Unusable),
        ("ThrottlingException", 400, Away),
        ("InternalServiceError", 500, Away),
        ("503", 503, Away),
        ("SomethingNew", 400, Refused),
    ],
)
def test_errors_have_their_kind(code: str, status: int, kind: type[Unresolved]) -> None:
    assert type(refusal(code, status)) is kind


def test_a_code_that_is_none_is_not_shown() -> None:
    assert "canary" not in str(refusal("<b>sk-canary</b>", 400))


def _provider(moto: MotoAws) -> Aws:
    return Aws(
        "main",
        region=moto.region,
        endpoint_url=moto.endpoint,
        access_key_id=Secret(moto.access_key_id),
        secret_access_key=Secret(moto.secret_access_key),
    )


async def test_secrets_are_found_as_text_as_bytes_and_under_keys(moto_aws: MotoAws) -> None:
    moto_aws.put_secret("found/plain", "sk-plain")
    moto_aws.put_secret("found/bytes", b"sk-bytes")
    moto_aws.put_secret("found/junk", b"\xff\xfe")
    arn = moto_aws.put_secret("found-several", '{"one": "sk-one", "a/b": "sk-two"}')
    moto_aws.call("DeleteSecret", {"SecretId": moto_aws.put_secret("found/marked", "sk-marked")})
    client = AwsClient(_provider(moto_aws), context(timeout=30.0))

    async def fetched(path: str) -> str:
        try:
            return (await client.fetch(path.split("/"))).value.reveal()
        except NoSuchSecret as error:
            return f"none: {error}"

    assert await fetched("found/plain") == "sk-plain"
    assert await fetched("found/bytes") == "sk-bytes"
    assert await fetched("found-several/one") == "sk-one"
    assert await fetched("found-several/a/b") == "sk-two"
    assert await fetched(f"{arn}/one") == "sk-one"
    assert "JSON object with a value under this key" in await fetched("found-several/three")
    assert "does not hold a JSON object" in await fetched("found/plain/key")
    assert "not UTF-8" in await fetched("found/junk")
    assert "has no secret of this name" in await fetched("nothing/here")
    assert "has no secret of this name" in await fetched("no,name")
    assert "marked for deletion" in await fetched("found/marked")
    await client.aclose()
    with pytest.raises(Away, match="being changed"):
        await client.fetch(["found", "plain"])


async def test_the_reading_that_worked_is_tried_first_but_not_for_good(moto_aws: MotoAws) -> None:
    moto_aws.put_secret("read/a", '{"key": "sk-first"}')
    clock = SetClock()
    client = AwsClient(_provider(moto_aws), context(clock=clock, timeout=30.0))

    async def fetched() -> str:
        return (await client.fetch(["read", "a", "key"])).value.reveal()

    assert await fetched() == "sk-first"
    moto_aws.put_secret("read/a/key", "sk-longer")
    assert await fetched() == "sk-first"
    clock.move(3601)
    assert await fetched() == "sk-longer", "as a proxy reads it that has started just now"
    moto_aws.delete_secret("read/a/key")
    assert await fetched() == "sk-first", "the reading that worked is gone: the others are tried"
    moto_aws.put_secret("read/a", '{"other": "sk"}')
    moto_aws.put_secret("read/a/key", "sk-again")
    assert await fetched() == "sk-again"
    await client.aclose()


async def test_a_probe_reads_nothing(moto_aws: MotoAws) -> None:
    client = AwsClient(_provider(moto_aws), context(timeout=30.0))
    await client.probe()
    await client.aclose()
