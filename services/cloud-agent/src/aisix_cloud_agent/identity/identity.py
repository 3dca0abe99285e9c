"""Who a certificate of the Cloud link says we are, and whether certificate, key and authority belong together. Pure.

Stricter than the reference, which looks at neither chain, key nor dates and takes the last of several names
(control-plane 6.1, 8 no. 33 and 34): what is accepted here works, also after the next restart.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from aisix_common.errors import AisixError
from aisix_common.secret import Secret

from .chain import UNREADABLE, chain_problem, date, extension

ENVIRONMENT_URI: Final = "x-aisix://env/"
DATA_PLANE_URI: Final = "x-aisix://dp/"
"""What the two URIs among a certificate's alternative names begin with (control-plane 6.1)."""

CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far our clock may be behind that of who issued a certificate: a fresh one is usable at once."""

_ENV_ID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DP_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")
"""Safe in a file, a header and a log line."""


class BundleRefused(AisixError):
    """A bundle that is not used. `reasons` are all that was found, for operators; none of them holds a key."""

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__("; ".join(self.reasons))


@dataclass(frozen=True, slots=True)
class Identity:
    """What a certificate says of itself and of us. Times are aware, in UTC."""

    env_id: str
    """The environment, a UUID as the certificate spells it: rows lie under this very text."""
    dp_id: str
    """The data plane; all replicas share it."""
    not_before: datetime
    not_after: datetime
    serial: str
    """Serial number in lower-case hex."""
    key_hash: str
    """SHA-256 of the public key (SPKI) in lower-case hex."""

    @property
    def lifetime(self) -> timedelta:
        """From the first to the last moment of validity."""
        return self.not_after - self.not_before

    def same_as(self, other: "Identity") -> bool:
        """Whether both name the same data plane of the same environment."""
        return (self.env_id, self.dp_id) == (other.env_id, other.dp_id)


def identify(certificate_pem: str, key_pem: Secret, ca_pem: str, now: datetime) -> Identity:
    """Whom a bundle makes us. The certificate may be followed by intermediates; `ca_pem` may hold several authorities.

    Raises BundleRefused with everything that is wrong at `now` (aware): no PEM, a private key where a certificate
    belongs, key and certificate that do not match, no chain to the authority, dates, use, and the two names.
    """
    reasons: list[str] = []
    certificates = _certificates("the certificate", certificate_pem, reasons)
    trusted = _certificates("the CA", ca_pem, reasons)
    key = _key(key_pem, reasons)
    names = ("", "")
    if certificates:
        leaf = certificates[0]
        names = _names(leaf, reasons)
        reasons += _dates(leaf, now)
        if key is not None:
            reasons += _mismatch(key, certificates)
        if trusted:
            # An expired leaf is said once: its chain is looked at in the last moment at which it could hold.
            at = min(max(now, leaf.not_valid_before_utc), leaf.not_valid_after_utc)
            problem = chain_problem(leaf, certificates[1:], trusted, at)
            if problem is not None:
                reasons.append(f"the certificate does not lead to the CA: {problem}; use the CA that issued it")
    if reasons or not certificates:
        raise BundleRefused(reasons)
    return Identity(
        *names,
        certificates[0].not_valid_before_utc,
        certificates[0].not_valid_after_utc,
        f"{certificates[0].serial_number:x}",
        key_hash(certificates[0].public_key()),
    )


def is_env_id(text: str) -> bool:
    """Whether `text` may name an environment: a UUID with its dashes."""
    return _ENV_ID.fullmatch(text) is not None


def key_hash(key: PublicKeyTypes) -> str:
    """SHA-256 of a public key's SPKI, in lower-case hex."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _certificates(what: str, pem: str, reasons: list[str]) -> list[x509.Certificate]:
    if "PRIVATE KEY-----" in pem:
        reasons.append(f"{what} has a private key beside it: certificates are stored readable, keep the key apart")
        return []
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode("utf-8", "replace"))
        for certificate in certificates:
            # Read only when asked for, and not always readable.
            _ = certificate.extensions, certificate.public_key(), certificate.subject, certificate.issuer
    except UNREADABLE:
        reasons.append(f"{what} is not PEM of X.509 certificates (-----BEGIN CERTIFICATE-----)")
        return []
    return certificates


def _key(pem: Secret, reasons: list[str]) -> PrivateKeyTypes | None:
    try:
        return load_pem_private_key(pem.reveal().encode("utf-8", "replace"), None)
    except TypeError:
        reasons.append("the key is encrypted with a passphrase: store it without one, readable by the gateway alone")
    except (ValueError, UnsupportedAlgorithm):
        reasons.append("the key is not PEM of a private key (-----BEGIN PRIVATE KEY-----)")
    return None


def _mismatch(key: PrivateKeyTypes, certificates: Sequence[x509.Certificate]) -> Iterator[str]:
    ours = key_hash(key.public_key())
    matching = [n for n, c in enumerate(certificates, 1) if key_hash(c.public_key()) == ours]
    if matching[:1] == [1]:
        return
    if matching:
        yield f"the key belongs to certificate {matching[0]} of {len(certificates)}: put that one first"
    else:
        yield "the key is not the certificate's: give the pair that was issued together"


def _dates(leaf: x509.Certificate, now: datetime) -> Iterator[str]:
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if now > end:
        yield f"the certificate has expired ({date(end)}, it is {date(now)} here): get a new one"
    elif now < begin - CLOCK_SKEW:
        yield f"the certificate is not valid before {date(begin)}, it is {date(now)} here: check the clock"


def _names(leaf: x509.Certificate, reasons: list[str]) -> tuple[str, str]:
    usage, names = extension(leaf, x509.ExtendedKeyUsage), extension(leaf, x509.SubjectAlternativeName)
    if usage is not None and not {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(
        usage
    ):
        reasons.append("the certificate is not for clients (extended key usage clientAuth): the Cloud would refuse it")
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names is not None else []
    env_id = _one(uris, ENVIRONMENT_URI, reasons)
    dp_id = _one(uris, DATA_PLANE_URI, reasons)
    if env_id is not None and not is_env_id(env_id):
        reasons.append(f"the environment id {_shown(env_id)} of the certificate is not a UUID")
    if dp_id is not None and _DP_ID.fullmatch(dp_id) is None:
        reasons.append(
            f"the data plane id {_shown(dp_id)} of the certificate is not 1 to 128 letters, digits and ._:@- "
            "that begin with a letter or digit"
        )
    return env_id or "", dp_id or ""


def _one(uris: Sequence[str], prefix: str, reasons: list[str]) -> str | None:
    found = [uri.removeprefix(prefix) for uri in uris if uri.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    reasons.append(f"the certificate names {len(found) or 'no'} URIs {prefix}<id>: there must be exactly one")
    return None


def _shown(text: str) -> str:
    return ascii(text[:60])
