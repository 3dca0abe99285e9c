"""Caller keys at the door: only the SHA-256 of a key is ever stored, and a key made here is shown once.

A write of an `api_keys` document may carry a plaintext `key` instead of `key_hash`; a POST may carry neither, and
gets a new key. Pure apart from the source of randomness, which is passed in.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aisix_common.errors import Problem
from aisix_common.secret import Secret

from .auth import AdminKeys
from .errors import Invalid

_HASH: Final = re.compile(r"[0-9a-f]{64}\Z")
_LONGEST: Final = 4096
"""No client sends a longer bearer: header lines of that size are refused by every listener."""


def new_key() -> Secret:
    """A fresh caller key: `sk-` and 48 hex digits, 192 bits of the system's randomness."""
    return Secret("sk-" + secrets.token_hex(24))


def key_hash(key: Secret) -> str:
    """What is stored and looked up: SHA-256 over the UTF-8 bytes, lower-case hex, no salt (control-plane 3.2)."""
    return hashlib.sha256(key.reveal().encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Admitted:
    """A document whose key is a hash now, and the plaintext where we made it: to be shown once, never stored."""

    document: dict[str, Any]
    plaintext: Secret | None = None


def admit(document: Mapping[str, Any], admin_keys: AdminKeys, *, make: Callable[[], Secret] | None = None) -> Admitted:
    """Turn the `key` of a written api_keys document into its hash, or `make` a key where there is neither.

    Raises Invalid: both given, a key that cannot be presented as a bearer, a hash that can never match, or a key that
    is an admin key. A document with neither stays as it is when `make` is None: the schema then names what is missing.
    """
    plain = dict(document)
    if "key" in plain:
        if "key_hash" in plain:
            raise _refused("/key", "give either `key` or `key_hash`, not both")
        plain["key_hash"] = key_hash(_bearer(plain.pop("key")))
        made = None
    elif "key_hash" not in plain and make is not None:
        made = make()
        plain["key_hash"] = key_hash(made)
    else:
        made = None
    stored = plain.get("key_hash")
    if isinstance(stored, str) and stored:
        if _HASH.match(stored) is None:
            raise _refused(
                "/key_hash", "must be the key's SHA-256 in 64 lower-case hex digits: nothing else ever matches"
            )
        if admin_keys.has_hash(stored):
            raise _refused("/key_hash", "this is an admin key: callers need keys of their own")
    return Admitted(plain, made)


def _bearer(value: object) -> Secret:
    if not isinstance(value, str):
        raise _refused("/key", "must be a string")
    text = value.strip()  # as the proxy trims what a caller presents
    if not text or len(text) > _LONGEST:
        raise _refused("/key", f"must have 1 to {_LONGEST} characters")
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise _refused("/key", "must be printable ASCII without spaces: clients send it in a header")
    if text.startswith(("$secret://", "$env://")):
        raise _refused("/key", "looks like a secret reference, which no caller may present")
    return Secret(text)


def _refused(path: str, reason: str) -> Invalid:
    return Invalid.schema([Problem(path, reason)])
