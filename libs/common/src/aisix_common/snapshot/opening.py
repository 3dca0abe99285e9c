"""A row's bytes in, its typed value out, with the secrets that lie encrypted in it in clear (design 7).

What cannot be opened is rejected like any other bad row: no wrong secret is ever used. Never raises.
"""

from typing import Any, Final

import msgspec

from aisix_common.resources import Kind, Loaded, Rejected, SecretJson, read
from aisix_common.resources.concealed import references_in, secrets_in
from aisix_common.secret import SEALED
from aisix_common.secrets.envelope import CannotOpen, Keyring
from aisix_common.secrets.rows import opened

_SEALED: Final = SEALED.encode()
_ESCAPE: Final = b"\\u"
"""JSON may spell any character so: `enc\\u003av1:` is a sealed text, too."""
_REMEDY: Final = "put the key it was sealed with into secrets.keyring, or write the secret again"
_NO_VALUE: Final = Rejected(
    "secret_sealed", "an encrypted value holds no secret of its field's type: write the row's secrets again"
)


def may_be_sealed(raw: bytes) -> bool:
    """Whether a row may hold a sealed secret. Cheap; False is certain."""
    return _SEALED in raw or _ESCAPE in raw


def holds_references(kind: Kind[Any], raw: bytes, value: Any) -> bool:
    """Whether the value of a row holds secret references. Most rows show by their bytes that they do not."""
    if b"$" not in raw and not may_be_sealed(raw):
        return False
    return next(references_in(kind, value), None) is not None


def read_row(kind: Kind[Any], id: str, raw: bytes, keyring: Keyring) -> Loaded[Any] | Rejected:
    """As `resources.read`, with its secrets in clear. Rows without sealed secrets cost nothing more."""
    outcome = read(kind, raw)
    if isinstance(outcome, Rejected) or not may_be_sealed(raw):
        return outcome
    try:
        value = opened(kind, id, outcome.value, keyring)
        if value is outcome.value:
            return outcome
        _tried(value)
    except CannotOpen as error:
        return Rejected("secret_sealed", f"{error}: {_REMEDY}")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _NO_VALUE
    flaws = kind.rules(value, False)
    if flaws:
        return Rejected("schema_failed", flaws[0].text(kind.type_name))
    return Loaded(value, outcome.unknown)


def _tried(value: Any) -> None:
    """Raises where a sealed text was no JSON and stands for a JSON value: nobody else expects that."""
    for _, secret in secrets_in(value):
        if isinstance(secret, SecretJson):
            secret.value()
