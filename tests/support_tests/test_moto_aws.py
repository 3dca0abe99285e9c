"""The AWS of the tests does what tests rely on."""

import base64
import urllib.request

import pytest

from tests.support.moto_aws import AwsRefused, MotoAws


def test_secrets_change_and_vanish(moto_aws: MotoAws) -> None:
    arn = moto_aws.put_secret("kit/text", "one")
    assert moto_aws.put_secret("kit/text", "two") == arn
    moto_aws.put_secret("kit/bytes", b"\x00\xff")
    assert moto_aws.call("GetSecretValue", {"SecretId": "kit/text"})["SecretString"] == "two"
    before = {"SecretId": arn, "VersionStage": "AWSPREVIOUS"}
    assert moto_aws.call("GetSecretValue", before)["SecretString"] == "one"
    binary = moto_aws.call("GetSecretValue", {"SecretId": "kit/bytes"})["SecretBinary"]
    assert base64.b64decode(binary) == b"\x00\xff"
    moto_aws.delete_secret("kit/text")
    with pytest.raises(AwsRefused) as gone:
        moto_aws.call("GetSecretValue", {"SecretId": "kit/text"})
    assert gone.value.code == "ResourceNotFoundException"


def test_it_hangs(moto_aws: MotoAws) -> None:  # resumed before any other test of this process goes on
    moto_aws.stop()
    try:
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(f"{moto_aws.endpoint}/moto-api/", timeout=0.2)
    finally:
        moto_aws.resume()
    moto_aws.put_secret("kit/after", "x")
