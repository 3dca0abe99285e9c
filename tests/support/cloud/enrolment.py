"""How a gateway gets its certificate: a one-time token for the first, the certificate it has for the next. No I/O.

A token is good for one public key. Asked again with that key within ten minutes the answer is the same one, as the
first may have been lost on its way; with another key, or later, it is used up.
"""

import datetime as dt
import secrets
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from .issuer import DAY, Identity, Issuer, spki

GRACE: Final = dt.timedelta(minutes=10)


class Refused(Exception):
    """The Cloud does not do it; `status` is the HTTP status that says so."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Enrolment:
    """Tokens and what they were used for."""

    def __init__(self, issuer: Issuer, now: Callable[[], dt.datetime], tokens: Mapping[str, dict[str, Any]]) -> None:
        """`tokens` is what an earlier one had in its `tokens`."""
        self.tokens: dict[str, dict[str, Any]] = dict(tokens)
        self.lifetime = DAY
        """Of the certificates that are issued from now on."""
        self.issued: list[Identity] = []
        self._issuer = issuer
        self._now = now

    def token(self, env_id: str) -> str:
        """A new token of that environment."""
        token = f"enrol-{secrets.token_urlsafe(24)}"
        self.tokens[token] = {"env_id": env_id}
        return token

    def enrol(self, token: object, request: object) -> dict[str, str]:
        """The answer to `POST /dp/enroll`. Raises Refused: 400 a bad request, 401 a bad token, 409 it is used up."""
        known = self.tokens.get(token) if isinstance(token, str) else None
        if known is None:
            raise Refused(401, "this token is not known: ask for a new one")
        key = _public_key(request)
        asked = spki(key).hex()
        now = self._now()
        if "key" in known:
            if known["key"] != asked:
                raise Refused(409, "this token was used with another key: ask for a new one")
            if now - dt.datetime.fromisoformat(known["at"]) > GRACE:
                raise Refused(409, "this token was used more than ten minutes ago: ask for a new one")
            return {"certificate": known["certificate"], "ca": self._issuer.ca}
        certificate = self._sign(key, known["env_id"], str(uuid.uuid4()))
        known |= {"key": asked, "at": now.isoformat(), "certificate": certificate}
        return {"certificate": certificate, "ca": self._issuer.ca}

    def rotate(self, caller: Identity, request: object) -> dict[str, str]:
        """The answer to `POST /dp/rotate-cert`: the same gateway, another certificate. Raises Refused 400."""
        return {"certificate": self._sign(_public_key(request), caller.env_id, caller.dp_id), "ca": self._issuer.ca}

    def _sign(self, key: ec.EllipticCurvePublicKey, env_id: str, dp_id: str) -> str:
        certificate, identity = self._issuer.sign(key, env_id, dp_id, self.lifetime)
        self.issued.append(identity)
        return certificate


def _public_key(request: object) -> ec.EllipticCurvePublicKey:
    """The key that a certificate request (PEM) asks for; whatever else it asks for does not count."""
    try:
        parsed = x509.load_pem_x509_csr(str(request).encode())
        key = parsed.public_key()
        good = parsed.is_signature_valid
    except ValueError:
        raise Refused(400, "csr: must be a PKCS #10 certificate request in PEM") from None
    if not good:
        raise Refused(400, "csr: its signature does not fit its key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Refused(400, "csr: the key must be of P-256")
    return key
