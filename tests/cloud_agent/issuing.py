"""Certificates of a Cloud that does not exist, sound and unsound. Dates are fixed: nothing here expires by itself."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aisix_cloud_agent.identity.bundle import Bundle
from aisix_common.secret import Secret

ENV = "0b8f5a52-7c0d-4a39-9a55-3f4f8f3b7f11"
OTHER_ENV = "7d3c1c7e-5a0e-4b53-8f0a-0d7b7c9a4e22"
DP = "dp-7"
URIS = (f"x-aisix://env/{ENV}", f"x-aisix://dp/{DP}")
NOW = dt.datetime(2026, 6, 15, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Authority:
    """A certificate that signs others."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> str:
        return pem(self.certificate)


def authority(
    name: str = "Cloud CA",
    *,
    by: Authority | None = None,
    ca: bool | None = True,
    path_length: int | None = None,
    key: Key | None = None,
    usage: bool | None = None,
    days: tuple[int, int] = (-1000, 1000),
) -> Authority:
    """`days`: of validity, from and to, counted from NOW. `ca` None: without basic constraints; `usage`: a key usage
    that allows signing certificates, or not."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = by.certificate.subject if by is not None else subject
    builder = _builder(subject, issuer, key.public_key(), days)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    if usage is not None:
        allowed = x509.KeyUsage(True, False, False, False, False, usage, False, False, False)
        builder = builder.add_extension(allowed, critical=True)
    signer = by.key if by is not None else key
    return Authority(builder.sign(signer, _hash(signer)), key)


@lru_cache
def cloud(name: str = "Cloud CA") -> Authority:
    """One root for each name and process."""
    return authority(name)


def leaf(
    by: Authority,
    public_key: CertificatePublicKeyTypes,
    uris: Sequence[str] | None = URIS,
    *,
    days: tuple[float, float] = (-30, 60),
    uses: Sequence[x509.ObjectIdentifier] | None = (ExtendedKeyUsageOID.CLIENT_AUTH,),
) -> x509.Certificate:
    """A certificate of a data plane. `uris` None: no alternative names; `uses` None: for whatever it may be."""
    builder = _builder(x509.Name([]), by.certificate.subject, public_key, days)
    if uris is not None:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("dp.test"), *names]), critical=True)
    if uses is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    return builder.sign(by.key, _hash(by.key))


def bundle(
    uris: Sequence[str] | None = URIS,
    *,
    by: Authority | None = None,
    days: tuple[int, int] = (-30, 60),
    key: Key | None = None,
    uses: Sequence[x509.ObjectIdentifier] | None = (ExtendedKeyUsageOID.CLIENT_AUTH,),
) -> Bundle:
    """A bundle of one data plane, sound where nothing else is asked for."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    by = by or cloud()
    return Bundle(pem(leaf(by, key.public_key(), uris, days=days, uses=uses)), Secret(key_pem(key)), by.pem)


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def key_pem(key: Key) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _hash(key: Key) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: CertificatePublicKeyTypes, days: tuple[float, float]
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + days[0] * DAY)
        .not_valid_after(NOW + days[1] * DAY)
    )
