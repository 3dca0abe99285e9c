"""The Cloud of the tests gives certificates as our proposal says: for a one-time token, and for a certificate."""

import datetime as dt
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from aisix_common.store.client import EtcdClient, EtcdOptions

from tests.support.cloud import Bundle, Cloud, Identity, cloud
from tests.support.cloud.issuer import private_pem, spki


class Clock:
    """The time of tokens."""

    def __init__(self) -> None:
        self.time = dt.datetime.now(dt.UTC)

    def __call__(self) -> dt.datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def running(tmp_path: Path, clock: Clock) -> AsyncIterator[Cloud]:
    async with cloud(tmp_path / "cloud", now=clock) as started:
        yield started


def csr(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    """A request that asks for a name it will not get."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode()


def tampered(request: str) -> str:
    """The same request under another name than the one it was signed with."""
    signed = x509.load_pem_x509_csr(request.encode()).public_bytes(Encoding.DER)
    other = x509.load_der_x509_csr(signed.replace(b"root", b"toor"))
    assert not other.is_signature_valid
    return other.public_bytes(Encoding.PEM).decode()


async def post(running: Cloud, path: str, document: Any, tls: ssl.SSLContext | None = None) -> tuple[int, Any]:
    """One call, by default of somebody without a certificate."""
    tls = tls or ssl.create_default_context(cadata=running.issuer.ca)
    async with aiohttp.ClientSession(running.url, connector=aiohttp.TCPConnector(ssl=tls)) as session:
        async with session.post(path, json=document) as answer:
            return answer.status, await answer.json()


async def test_from_a_token_to_a_certificate_that_opens_etcd_and_the_next_one(running: Cloud, tmp_path: Path) -> None:
    c = running
    c.enrolment.lifetime = dt.timedelta(seconds=90)
    key = ec.generate_private_key(ec.SECP256R1())
    status, answer = await post(c, "/dp/enroll", {"token": c.token(c.b), "csr": csr(key)})
    assert status == 200
    assert answer["ca"] == c.issuer.ca
    issued = x509.load_pem_x509_certificate(answer["certificate"].encode())
    assert issued.subject.rfc4514_string() == f"CN={c.b}"
    assert issued.public_key() == key.public_key()
    assert issued.not_valid_after_utc - issued.not_valid_before_utc == dt.timedelta(seconds=90)
    identity = c.enrolment.issued[0]
    assert sans(issued) == [f"x-aisix://env/{c.b}", f"x-aisix://dp/{identity.dp_id}"]
    bundle = Bundle(answer["certificate"], private_pem(key), answer["ca"], identity)
    async with EtcdClient(EtcdOptions(endpoints=(c.endpoint,), tls=bundle.material())) as ours:
        await ours.range(f"/aisix/{c.b}/")

    fresh = ec.generate_private_key(ec.SECP256R1())
    assert (await post(c, "/dp/rotate-cert", {"csr": csr(fresh)}))[0] == 401
    status, answer = await post(c, "/dp/rotate-cert", {"csr": csr(fresh)}, bundle.tls(tmp_path / "bundle"))
    assert status == 200
    renewed = x509.load_pem_x509_certificate(answer["certificate"].encode())
    assert sans(renewed) == sans(issued)
    assert renewed.public_key() == fresh.public_key()
    assert c.enrolment.issued == [identity, Identity(c.b, identity.dp_id, renewed.serial_number)]


async def test_a_token_is_good_for_one_key_and_ten_minutes(running: Cloud, clock: Clock) -> None:
    c = running
    token = c.token(c.a)
    first, second = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    async def ask(key: ec.EllipticCurvePrivateKey) -> tuple[int, Any]:
        return await post(c, "/dp/enroll", {"token": token, "csr": csr(key)})

    given = await ask(first)
    assert given[0] == 200
    clock.time += dt.timedelta(minutes=9)
    assert await ask(first) == given
    assert (await ask(second))[0] == 409
    clock.time += dt.timedelta(minutes=2)
    assert (await ask(first))[0] == 409
    assert len(c.enrolment.issued) == 1


async def test_what_is_no_request_is_refused_and_uses_no_token_up(running: Cloud) -> None:
    c = running
    token = c.token(c.a)
    good = csr(ec.generate_private_key(ec.SECP256R1()))
    cases: list[tuple[object, int]] = [
        ({"token": "enrol-guessed", "csr": good}, 401),
        ({"token": None, "csr": good}, 401),
        ({"csr": good}, 401),
        ({"token": token}, 400),
        ({"token": token, "csr": good[:60] + "AAAA" + good[64:]}, 400),
        ({"token": token, "csr": tampered(good)}, 400),
        ({"token": token, "csr": csr(ec.generate_private_key(ec.SECP384R1()))}, 400),
        ({"token": token, "csr": csr(rsa.generate_private_key(65537, 2048))}, 400),
        ([], 400),
        ({"token": token, "csr": good}, 200),
    ]
    for number, (document, expected) in enumerate(cases):
        assert (await post(c, "/dp/enroll", document))[0] == expected, number


def test_the_pin_is_of_the_authority_s_public_key(tmp_path: Path) -> None:
    c = Cloud(tmp_path / "cloud")
    key = x509.load_pem_x509_certificate(c.issuer.ca.encode()).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(spki(key))
    assert c.issuer.pin == digest.finalize().hex()


def sans(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)
