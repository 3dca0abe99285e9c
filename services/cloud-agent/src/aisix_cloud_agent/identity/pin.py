"""The pin of the Cloud's authority: who is trusted with the first call, when nothing but a token is at hand. Pure."""

import base64
import binascii
import re
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from aisix_common.errors import ConfigurationError, Problem

from .chain import UNREADABLE, extension
from .identity import BundleRefused, key_hash


def read_pin(text: str) -> bytes:
    """The SHA-256 of an authority's public key (SPKI) as hex, with or without colons, or base64; `sha256:` or
    `sha256//` may stand before it. Raises ConfigurationError."""
    bare = re.sub(r"^sha256(?::|//)", "", text.strip(), flags=re.IGNORECASE)
    hexadecimal = bare.replace(":", "")
    if re.fullmatch(r"[0-9a-fA-F]{64}", hexadecimal):
        return bytes.fromhex(hexadecimal)
    try:
        pin = base64.b64decode(bare.rstrip("=").replace("-", "+").replace("_", "/") + "=", validate=True)
    except (binascii.Error, ValueError):
        pin = b""
    if len(pin) != 32:
        raise ConfigurationError(
            [Problem("managed.bootstrap.ca_pin", "must be the SHA-256 of the CA's public key, in hex or base64")]
        )
    return pin


def pinned_authority(presented: Sequence[bytes], pin: bytes) -> str:
    """The authority with this pin, as PEM, among the certificates (DER) that a server presented: the one to trust for
    the connection that carries the token. Raises BundleRefused where there is none."""
    for data in presented:
        try:
            certificate = x509.load_der_x509_certificate(data)
            constraints = extension(certificate, x509.BasicConstraints)
            found = constraints is not None and constraints.ca and is_pinned(certificate, pin)
        except UNREADABLE:
            continue
        if found:
            return certificate.public_bytes(Encoding.PEM).decode()
    raise BundleRefused(
        [
            f"none of the {len(presented)} certificates that the Cloud's server presented is the authority that "
            "managed.bootstrap.ca_pin names: check the pin, or give the authority itself as managed.bootstrap.ca_file"
        ]
    )


def is_pinned(certificate: x509.Certificate, pin: bytes) -> bool:
    """Whether a certificate has the public key that a pin names. Raises one of UNREADABLE."""
    return key_hash(certificate.public_key()) == pin.hex()
