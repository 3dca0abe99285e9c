"""Caller keys at the door: only the SHA-256 of a key is ever stored, and a key made here is shown once.

A write of an `api_keys` document may carry a plaintext `key` instead of `key_hash`; a POST may carry neither, and
gets a new key. Both may be a secret reference, which is stored as it is: the proxies hash what it leads to. What is
wrong is noted, not raised: the schema has more to say on the same document. Pure apart from the source of randomness,
which is passed in.
"""

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aisix_common.resources import Flaw, hash_key
from aisix_common.secret import Secret, is_reference

from .auth import AdminKeys

_HASH: Final = re.compile(r"[0-9a-f]{64}\Z")
_LONGEST: Final = 4096
"""No client sends a longer bearer: header lines of that size are refused by every listener."""
MOST_PREVIOUS: Final = 8
"""Keys of the past that may still be valid beside the present one."""
_NOTHING: Final = "0" * 64
"""Stands for the hash of a key that was refused, so that the schema does not call it missing. Never stored."""


def new_key() -> Secret:
    """A fresh caller key: `sk-` and 48 hex digits, 192 bits of the system's randomness."""
    return Secret("sk-" + secrets.token_hex(24))


@dataclass(frozen=True, slots=True)
class Admitted:
    """A document whose key is a hash now, and the plaintext where we made it: to be shown once, never stored.

    With `flaws` it must not be stored: they are to be told together with whatever else is wrong.
    """

    document: dict[str, Any]
    plaintext: Secret | None = None
    flaws: tuple[Flaw, ...] = ()


def admit(
    document: Mapping[str, Any],
    admin_keys: AdminKeys,
    *,
    make: Callable[[], Secret] | None = None,
    stored: str | None = None,
) -> Admitted:
    """Turn the `key` of a written api_keys document into its hash, or `make` a key where there is neither.

    Flaws: both given, a key that cannot be presented as a bearer, a hash that can never match, or a key that is an
    admin key. `stored` is the hash in the row that is replaced: it may stay in whatever form others wrote it. With
    neither and no `make` the document stays as it is: the schema names what is missing.
    """
    plain = dict(document)
    if "key" in plain:
        return _hashed(plain, admin_keys)
    made = None
    if "key_hash" not in plain and make is not None:
        made = make()
        plain["key_hash"] = hash_key(made.reveal())
    wrong = _wrong_hash(plain.get("key_hash"), stored, admin_keys)
    return Admitted(plain, made, (*wrong, *_wrong_previous(plain.get("previous_keys"), admin_keys)))


def _wrong_previous(value: object, admin_keys: AdminKeys) -> Iterator[Flaw]:
    if isinstance(value, list) and len(value) > MOST_PREVIOUS:
        yield Flaw(("previous_keys",), f"must have at most {MOST_PREVIOUS} items")
    for place, each in enumerate(value if isinstance(value, list) else ()):
        text = each.get("hash") if isinstance(each, dict) else None
        if not isinstance(text, str):
            continue  # the schema's business
        at = ("previous_keys", place, "hash")
        if is_reference(text):
            yield Flaw(at, "cannot be a secret reference: only `key_hash` is resolved, and this would never match")
        if admin_keys.has_hash(text):
            yield Flaw(at, "this is an admin key: callers need keys of their own")


def _hashed(plain: dict[str, Any], admin_keys: AdminKeys) -> Admitted:
    key = plain.pop("key")
    wrong = _wrong_key(key)
    if "key_hash" in plain:
        both = Flaw(("key",), "give either `key` or `key_hash`, not both")
        return Admitted(plain, flaws=(both, *wrong, *_wrong_hash(plain["key_hash"], None, admin_keys)))
    plain["key_hash"] = _NOTHING if wrong else key.strip() if is_reference(key.strip()) else hash_key(key)
    found = (*wrong, *_wrong_hash(plain["key_hash"], None, admin_keys))
    return Admitted(plain, flaws=(*found, *_wrong_previous(plain.get("previous_keys"), admin_keys)))


def _wrong_hash(value: object, stored: str | None, admin_keys: AdminKeys) -> tuple[Flaw, ...]:
    if not isinstance(value, str) or not value:
        return ()  # the schema's business
    if value != stored and not is_reference(value) and _HASH.match(value) is None:
        reason = "must be the key's SHA-256 in 64 lower-case hex digits: nothing else ever matches"
        return (Flaw(("key_hash",), reason),)
    if admin_keys.has_hash(value):
        return (Flaw(("key_hash",), "this is an admin key: callers need keys of their own"),)
    return ()


def _wrong_key(value: object) -> tuple[Flaw, ...]:
    if not isinstance(value, str):
        return (Flaw(("key",), "must be a string"),)
    text = value.strip()
    if not text or len(text) > _LONGEST:
        reason = f"must have 1 to {_LONGEST} characters"
    elif not (text.isascii() and text.isprintable()) or " " in text:
        reason = "must be printable ASCII without spaces: clients send it in a header"
    else:
        return ()
    return (Flaw(("key",), reason),)
