"""The Cloud's certificate authority: signs requests, names environment and gateway in two URI SANs, revokes.

It lives in a folder (`ca.crt`, `ca.key`, `revoked.crl`) and goes on with what it finds there. Whom it signs for, others
have decided. A certificate's CN is its environment: etcd takes that for the user.
"""

import datetime as dt
import hashlib
import ipaddress
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aisix_common.store.options import TlsMaterial

from tests.support.authority import KEY_USAGE

SCHEME: Final = "x-aisix"
DAY: Final = dt.timedelta(days=1)
_AGES: Final = dt.timedelta(days=3650)
_LOOPBACK: Final = ipaddress.IPv4Address("127.0.0.1")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who shows a certificate: an environment, a gateway in it, and which certificate (serial number)."""

    env_id: str
    dp_id: str
    serial: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a gateway needs for the Cloud, in PEM."""

    certificate: str
    key: str = field(repr=False)
    ca: str
    identity: Identity

    @property
    def expires(self) -> dt.datetime:
        return x509.load_pem_x509_certificate(self.certificate.encode()).not_valid_after_utc

    def write(self, folder: Path) -> tuple[Path, Path, Path]:
        """As files, called as the gateway calls them; the paths of authority, certificate and key."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = folder / "ca.crt", folder / "client.crt", folder / "client.key"
        for path, text in zip(paths, (self.ca, self.certificate, self.key), strict=True):
            _write(path, text.encode(), private=path.suffix == ".key")
        return paths

    def tls(self, folder: Path) -> ssl.SSLContext:
        """For a client of the HTTP side; the files go to `folder`."""
        _, certificate, key = self.write(folder)
        context = ssl.create_default_context(cadata=self.ca)
        context.load_cert_chain(certificate, key)
        context.set_alpn_protocols(["http/1.1"])
        return context

    def material(self) -> TlsMaterial:
        """For a client of the etcd side."""
        return TlsMaterial(ca=self.ca.encode(), certificate=self.certificate.encode(), key=self.key.encode())


class Issuer:
    """The authority of one Cloud."""

    def __init__(self, folder: Path, name: str = "AISIX Cloud CA of the tests") -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ca_file = folder / "ca.crt"
        self.crl_file = folder / "revoked.crl"
        key_file = folder / "ca.key"
        if not self.ca_file.exists():
            self._found(key_file, name)
        key = load_pem_private_key(key_file.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        self.ca = self.ca_file.read_text()
        self._certificate = x509.load_pem_x509_certificate(self.ca.encode())
        if not self.crl_file.exists():
            self._publish(())

    @property
    def pin(self) -> str:
        """The SHA-256 of the authority's public key (SPKI), in hex."""
        return hashlib.sha256(spki(self._key.public_key())).hexdigest()

    @property
    def revoked(self) -> frozenset[int]:
        """The serial numbers that hold no more."""
        return frozenset(each.serial_number for each in x509.load_pem_x509_crl(self.crl_file.read_bytes()))

    def sign(
        self,
        public_key: ec.EllipticCurvePublicKey,
        env_id: str,
        dp_id: str,
        lifetime: dt.timedelta = DAY,
        *,
        uris: Sequence[str] | None = None,
    ) -> tuple[str, Identity]:
        """A certificate for a gateway, good from now on; one with a negative `lifetime` ended that long ago.

        `uris` replaces the two URI SANs, for certificates that are not as they should be.
        """
        named = (f"{SCHEME}://env/{env_id}", f"{SCHEME}://dp/{dp_id}") if uris is None else uris
        sans = [x509.UniformResourceIdentifier(uri) for uri in named]
        builder = self._builder(public_key, env_id, lifetime, sans, ExtendedKeyUsageOID.CLIENT_AUTH)
        certificate = builder.sign(self._key, hashes.SHA256())
        return _pem(certificate), Identity(env_id, dp_id, certificate.serial_number)

    def server(self, folder: Path, name: str, *, client: str = "") -> tuple[Path, Path]:
        """Files of a certificate for this host under `localhost`, `cloud.test` and 127.0.0.1; or, with `client`, of a
        client's with that CN."""
        key = ec.generate_private_key(ec.SECP256R1())
        sans = [] if client else [x509.DNSName("localhost"), x509.DNSName("cloud.test"), x509.IPAddress(_LOOPBACK)]
        use = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        builder = self._builder(key.public_key(), client or "cloud.test", _AGES / 2, sans, use)
        paths = folder / f"{name}.crt", folder / f"{name}.key"
        _write(paths[0], _pem(builder.sign(self._key, hashes.SHA256())).encode())
        _write(paths[1], private_pem(key).encode(), private=True)
        return paths

    def revoke(self, serial: int) -> None:
        """Put it on the list."""
        self._publish({*self.revoked, serial})

    def _builder(
        self,
        public_key: ec.EllipticCurvePublicKey,
        name: str,
        lifetime: dt.timedelta,
        sans: Sequence[x509.GeneralName],
        use: x509.ObjectIdentifier,
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        begin = now if lifetime > dt.timedelta() else now + lifetime - DAY
        identifier = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        )
        return builder.add_extension(x509.SubjectAlternativeName(sans), critical=False) if sans else builder

    def _found(self, key_file: Path, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + _AGES)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(KEY_USAGE, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write(key_file, private_pem(key).encode(), private=True)
        _write(self.ca_file, _pem(certificate).encode())  # last: it says that all is there

    def _publish(self, serials: Sequence[int] | set[int]) -> None:
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._certificate.subject)
        builder = builder.last_update(now).next_update(now + _AGES)
        for serial in sorted(serials):
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(revoked)
        _write(self.crl_file, builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))


def spki(key: ec.EllipticCurvePublicKey) -> bytes:
    """The public key as certificates hold it, DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """The private key, PKCS #8 in PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _write(path: Path, data: bytes, *, private: bool = False) -> None:
    """In one step: whoever reads meanwhile finds the old or the new."""
    new = path.with_name(f".{path.name}.new")
    with open(new, "wb", opener=lambda name, flags: os.open(name, flags, 0o600 if private else 0o644)) as file:
        file.write(data)
    new.rename(path)
