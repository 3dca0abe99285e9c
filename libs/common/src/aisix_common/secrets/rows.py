"""Sealing and opening the secrets of a resource: typed value in, typed value or document out. Pure.

The context of each is its kind, its id and its path, so that whoever can write etcd cannot make one row use another
row's secret. References stay as they are: they say where a secret is, not what.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from aisix_common.resources import Kind
from aisix_common.resources.concealed import secrets_in, with_secrets
from aisix_common.resources.flaw import Flaw, Path
from aisix_common.resources.sensitive import SecretJson
from aisix_common.secret import SEALED, Secret, is_reference, is_sealed

from .envelope import CannotOpen, Keyring

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Stored:
    """A document as it is to be stored."""

    document: dict[str, Any]
    clear: tuple[Path, ...] = ()
    """The secrets in it that are in clear, for want of a key."""
    sealed: bool = False
    """Whether something was sealed just now."""


def context(kind: str, id: str, at: Path) -> bytes:
    """What is authenticated with a sealed secret."""
    return msgspec.json.encode(["aisix", "v1", kind, id, *at])


def sealed(kind: Kind[Any], id: str, document: Mapping[str, Any], value: Any, keyring: Keyring) -> Stored:
    """`document` (in clear, of the typed `value`) with its secrets sealed under the keyring's first key.

    What is sealed already stays: it was sealed for this very place, or it will not open. Without a keyring secrets
    stay in clear, and `clear` says where.
    """
    made: dict[str, Any] = dict(document)
    clear: list[Path] = []
    new = False
    for at, secret in secrets_in(value):
        text = secret.stored
        if not secret or (text is not None and (is_reference(text) or is_sealed(text))):
            continue
        if not keyring:
            clear.append(at)
            continue
        made = _put(made, at, keyring.seal(secret.reveal(), context(kind.name, id, at)))
        new = True
    return Stored(made, tuple(clear), new)


def opened(kind: Kind[Any], id: str, value: Value, keyring: Keyring, *, leave_closed: bool = False) -> Value:
    """`value` with every sealed secret in clear; the same object where none is sealed.

    Raises CannotOpen, whose message begins with the path of the secret; with `leave_closed` what does not open stays
    sealed instead.
    """

    def clear(at: Path, secret: Secret) -> Secret:
        text = secret.stored
        if text is None or not is_sealed(text):
            return secret
        try:
            return type(secret)(_open(text, kind, id, at, keyring))
        except CannotOpen:
            if leave_closed:
                return secret
            raise

    return with_secrets(value, clear)


def resealed(kind: Kind[Any], id: str, value: Value, keyring: Keyring) -> Value:
    """`value` with every secret sealed under the keyring's first key, also those that were in clear or under another.

    Those under the first key already stay as they are. Raises CannotOpen.
    """

    def again(at: Path, secret: Secret) -> Secret:
        text = secret.stored
        if not secret or (text is not None and is_reference(text)):
            return secret
        if text is None or not is_sealed(text):
            clear = secret.reveal()
        elif text.startswith(f"{SEALED}{keyring.first}:"):
            return secret
        else:
            clear = _open(text, kind, id, at, keyring)
        text = keyring.seal(clear, context(kind.name, id, at))
        return SecretJson.of(text) if isinstance(secret, SecretJson) else Secret(text)

    return with_secrets(value, again)


def _open(text: str, kind: Kind[Any], id: str, at: Path, keyring: Keyring) -> str:
    """Raises CannotOpen, with the path in front of its message."""
    try:
        return keyring.open(text, context(kind.name, id, at))
    except CannotOpen as error:
        raise CannotOpen(f"{Flaw(at, '').pointer} {error}", error.key_id) from None


def _put(document: Any, at: Path, text: str) -> Any:
    """A copy of `document` with `text` at a path that is there."""
    part = at[0]
    if isinstance(document, list):
        copy = list(document)
        place = int(part)
        copy[place] = text if len(at) == 1 else _put(copy[place], at[1:], text)
        return copy
    return {**document, part: text if len(at) == 1 else _put(document[part], at[1:], text)}
