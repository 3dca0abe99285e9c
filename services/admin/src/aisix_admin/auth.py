"""Who may use the admin API: the credential of a request, and whether it is one of ours. Pure; knows no HTTP framework.

The rules are those of the reference (`Authorization: Bearer <key>`, else `x-api-key`), compared in constant time.
"""

import hashlib
import hmac
from collections.abc import Sequence

from aisix_common.secret import Secret


def credential(authorization: str | None, api_key: str | None) -> str | None:
    """The key a request presents, or None. A present Authorization header decides alone, even when it is malformed."""
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        return (token.strip() or None) if scheme == "Bearer" else None
    return (api_key.strip() or None) if api_key is not None else None


class AdminKeys:
    """The configured admin keys, kept as digests: nothing here can show a key."""

    def __init__(self, keys: Sequence[Secret]) -> None:
        self._digests = tuple(_digest(key.reveal()) for key in keys)

    def position(self, presented: str | None) -> int | None:
        """Which key `presented` is (its place in the configuration, for the log), or None.

        Every digest is compared, always: the time tells neither which key came close nor where in the list it stands.
        """
        digest = _digest(presented or "")
        found: int | None = None
        for place, known in enumerate(self._digests):
            if hmac.compare_digest(known, digest):
                found = place
        return found if presented else None

    def has_hash(self, key_hash: str) -> bool:
        """Whether a caller key with this SHA-256 (lower-case hex) would be one of the admin keys."""
        return key_hash in {known.hex() for known in self._digests}


def _digest(text: str) -> bytes:
    # "surrogateescape" because header bytes that are no UTF-8 reach us as lone surrogates.
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
