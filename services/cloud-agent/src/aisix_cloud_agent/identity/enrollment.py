"""How a certificate of the Cloud link is asked for, and what of the answer is taken: our proposal, described in
docs/reference/cloud-protocol.md.

Pure: what is sent and what came back are values, the time comes in as an argument. Keys are made by OpenSSL, from the
system's randomness. The key never leaves the gateway: only a CSR does.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from aisix_common.errors import AisixError, ConfigurationError, Problem
from aisix_common.secret import Secret

from .bundle import Bundle
from .identity import DATA_PLANE_URI, ENVIRONMENT_URI, BundleRefused, Identity, identify, key_hash
from .pin import is_pinned

ENROLL: Final = "/dp/enroll"
ROTATE: Final = "/dp/rotate-cert"
MOST_BYTES: Final = 256 * 1024
"""An answer may have. A bundle has some ten thousand."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A key and the CSR made with it. Both are kept before they are first used: asking again asks for the same."""

    key_pem: Secret
    csr_pem: str


@dataclass(frozen=True, slots=True)
class Call:
    """A POST to the Cloud with a JSON body, which may hold the token."""

    url: str
    body: Secret


class NotEnrolled(AisixError):
    """The Cloud gave no certificate that can be used. `again` says whether asking again may help without a change by
    the operator. Of its answer the message has the status and names in certificates, at most."""

    def __init__(self, message: str, *, again: bool) -> None:
        super().__init__(message)
        self.again = again


def new_pending(identity: Identity | None = None) -> Pending:
    """A fresh P-256 key and a CSR for it, which names who we are where that is known already."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder()
    if identity is None:
        builder = builder.subject_name(x509.Name([]))
    else:
        uris = (ENVIRONMENT_URI + identity.env_id, DATA_PLANE_URI + identity.dp_id)
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity.dp_id[:64])])
        builder = builder.subject_name(subject).add_extension(names, critical=False)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return Pending(Secret(pem), builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode())


def is_sound(pending: Pending) -> bool:
    """Whether key and CSR can be read and belong together; what was damaged is made anew."""
    try:
        csr = x509.load_pem_x509_csr(pending.csr_pem.encode("utf-8", "replace"))
        return csr.is_signature_valid and key_hash(csr.public_key()) == _public(pending)
    except (ValueError, TypeError):
        return False


def enrollment(url: str, token: Secret, pending: Pending) -> Call:
    """The call that turns a one-time token into a certificate. Raises ConfigurationError for a URL that is not usable
    or a token that is blank."""
    text = token.reveal().strip()
    if not text:
        raise ConfigurationError([Problem("managed.bootstrap.token", "is blank: ask the Cloud for a new token")])
    body = json.dumps({"token": text, "csr": pending.csr_pem})
    return Call(_secure(url, "managed.bootstrap.url") + ENROLL, Secret(body))


def rotation(base_url: str, pending: Pending) -> Call:
    """The call that renews a certificate; the connection's old certificate says who asks. Raises ConfigurationError."""
    return Call(_secure(base_url, "managed.cp_base_url") + ROTATE, Secret(json.dumps({"csr": pending.csr_pem})))


def enrolled(status: int, body: bytes, pending: Pending, now: datetime, pin: bytes | None = None) -> Bundle:
    """The bundle in the answer to `enrollment`, identified and ready to be saved. `pin` as of `read_pin`.

    Raises NotEnrolled. What cannot be used is asked for again: it may be our clock, or a fault of theirs.
    """
    answer = _answer(status, body)
    if not answer.ca:
        raise NotEnrolled("the Cloud's answer lacks the CA", again=True)
    bundle = _bundle(answer, answer.ca, pending)
    _identified(bundle, now)
    if pin is not None and not any(is_pinned(c, pin) for c in _authorities(answer.ca)):
        raise NotEnrolled(
            "the CA in the Cloud's answer is not the one that managed.bootstrap.ca_pin names: check the pin; if it is "
            "right, somebody stands between this gateway and the Cloud",
            again=False,
        )
    return bundle


def rotated(status: int, body: bytes, pending: Pending, now: datetime, before: Bundle, identity: Identity) -> Bundle:
    """The bundle in the answer to `rotation`; without a `ca` in it, the authority stays the one from `before`.

    Raises NotEnrolled, also for a certificate that names anybody but `identity` or is older than it.
    """
    answer = _answer(status, body)
    bundle = _bundle(answer, answer.ca or before.ca, pending)
    new = _identified(bundle, now)
    if not new.same_as(identity):
        raise NotEnrolled(
            f"the Cloud answered with a certificate of data plane {new.dp_id} of environment {new.env_id}; "
            f"this is {identity.dp_id} of {identity.env_id}, and goes on with its own",
            again=True,
        )
    if new.not_before < identity.not_before:  # when it ends says nothing: lifetimes may have become shorter
        raise NotEnrolled("the Cloud answered with a certificate that is older than the one in use", again=True)
    return bundle


class _Answer(msgspec.Struct, frozen=True):
    certificate: Annotated[str, msgspec.Meta(min_length=1)]
    ca: str | None = None
    chain: str | tuple[str, ...] | None = None


_DECODER: Final = msgspec.json.Decoder(_Answer)


def _answer(status: int, body: bytes) -> _Answer:
    if not 200 <= status <= 299:
        message, again = _refusal(status)
        raise NotEnrolled(f"the Cloud answered {status}: {message}", again=again)
    if len(body) > MOST_BYTES:
        raise NotEnrolled(f"the Cloud's answer is larger than {MOST_BYTES} bytes", again=True)
    try:
        return _DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass  # raised below: the error at hand may quote the answer
    raise NotEnrolled("the Cloud's answer is not JSON of {certificate, ca, chain}", again=True)


def _refusal(status: int) -> tuple[str, bool]:
    """What a status means to an operator, and whether asking again may help."""
    if status in (401, 403):
        return "the token or certificate is not accepted (used up, expired or revoked): get a new token", False
    if status in (404, 405, 501):
        return (
            "it does not give certificates at this address: check managed.bootstrap.url or managed.cp_base_url",
            False,
        )
    if status in (408, 425, 429) or status >= 500:
        return "it cannot answer now", True
    if status < 400:
        return "it points elsewhere, which is not followed: give the final address", False
    return "it does not take the request", False


def _bundle(answer: _Answer, ca: str, pending: Pending) -> Bundle:
    chain = (answer.chain,) if isinstance(answer.chain, str) else answer.chain or ()
    parts = [part.strip() + "\n" for part in (answer.certificate, *chain) if part.strip()]
    return Bundle("".join(parts), pending.key_pem, ca.strip() + "\n")


def _identified(bundle: Bundle, now: datetime) -> Identity:
    try:
        return identify(bundle.certificate, bundle.key, bundle.ca, now)
    except BundleRefused as refused:
        raise NotEnrolled(f"the Cloud's answer cannot be used: {refused}", again=True) from None


def _authorities(pem: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem.encode())


def _public(pending: Pending) -> str:
    return key_hash(load_pem_private_key(pending.key_pem.reveal().encode(), None).public_key())


def _secure(url: str, setting: str) -> str:
    """The URL without its last slash. Raises ConfigurationError unless it is https, a host, and at most a path."""
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme == "https" and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.username or parts.query or parts.fragment:
        raise ConfigurationError([Problem(setting, "must be https://host[:port]: tokens never go over plain HTTP")])
    return url.strip().rstrip("/")
