"""The pin of an authority: every spelling of it, and which presented certificate it names."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from aisix_cloud_agent.identity.identity import BundleRefused
from aisix_cloud_agent.identity.pin import is_pinned, pinned_authority, read_pin
from aisix_common.errors import ConfigurationError

from tests.cloud_agent.issuing import Authority, authority, cloud, leaf

PIN = hashlib.sha256(b"spki").digest()
BASE64 = base64.b64encode(PIN).decode()


def pin_of(who: Authority) -> bytes:
    spki = who.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


def der(who: Authority) -> bytes:
    return who.certificate.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "text",
    [
        PIN.hex(),
        PIN.hex().upper(),
        PIN.hex(":"),
        f" {PIN.hex()}\n",
        f"sha256:{PIN.hex()}",
        BASE64,
        BASE64.rstrip("="),
        f"sha256//{BASE64}",
        f"SHA256:{BASE64}",
        base64.urlsafe_b64encode(PIN).decode(),
    ],
)
def test_spellings(text: str) -> None:
    assert read_pin(text) == PIN


@given(st.binary(min_size=32, max_size=32))
def test_any_pin(pin: bytes) -> None:
    assert {read_pin(pin.hex()), read_pin(base64.b64encode(pin).decode())} == {pin}


@given(st.text(max_size=80))
def test_any_text_is_a_pin_or_refused(text: str) -> None:
    try:
        pin = read_pin(text)
    except ConfigurationError:
        return
    assert len(pin) == 32


@pytest.mark.parametrize("text", ["", "sha256:", PIN.hex()[:-2], PIN.hex() + "00", BASE64 + "A", "sha1:" + PIN.hex()])
def test_no_pins(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"managed\.bootstrap\.ca_pin: must be the SHA-256"):
        read_pin(text)


def test_the_authority_among_what_a_server_presents() -> None:
    middle = authority("Middle", by=cloud())
    presented = [b"garbage", der(authority("Cloud CA")), der(middle), der(cloud())]
    assert pinned_authority(presented, pin_of(cloud())) == cloud().pem
    assert pinned_authority(presented, pin_of(middle)) == middle.pem
    assert is_pinned(cloud().certificate, pin_of(cloud())) and not is_pinned(middle.certificate, pin_of(cloud()))


def test_no_authority_with_that_pin() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    server = Authority(leaf(cloud(), key.public_key()), key)
    for presented, pin in (([], PIN), ([der(cloud())], PIN), ([der(server), der(cloud())], pin_of(server))):
        with pytest.raises(BundleRefused, match=f"none of the {len(presented)} certificates .* check the pin"):
            pinned_authority(presented, pin)
