"""Variables in place of secrets: `${AISIXSECRET_PROVIDER_KEY_OPENAI_API_KEY}`. Each secret has one of its own. Pure."""

import re
from typing import Any, Final

from aisix_common.resources import Kind, SecretJson, document, masked
from aisix_common.resources.flaw import Path
from aisix_common.secret import MASK, Secret, is_reference

from .interpolation import escaped

PREFIX: Final = "AISIXSECRET"
_OTHER: Final = re.compile(r"[^A-Z0-9]")


def sealed(kind: Kind[Any], value: Any) -> dict[str, Any]:
    """The document of a typed resource with its secrets in their shells."""
    sealed: dict[str, Any] = _sealed(document(kind, value), masked(kind, value))
    return sealed


def _sealed(clear: Any, shown: Any) -> Any:
    if shown == MASK and clear != MASK:
        return Secret(clear) if isinstance(clear, str) else SecretJson.of(clear)
    if isinstance(clear, dict):
        return {name: _sealed(item, shown[name]) for name, item in clear.items()}
    if isinstance(clear, list):
        return [_sealed(item, mask) for item, mask in zip(clear, shown, strict=True)]
    return clear


class Placeholders:
    """The variables of one export. `values` is what each of them stands for."""

    def __init__(self, *, reveal: bool) -> None:
        """`reveal`: write secrets in clear instead."""
        self._reveal = reveal
        self.values: dict[str, str] = {}

    def text(self, secret: str, kind: str, identity: str, at: Path) -> str:
        """What is written for the secret text at `at`: its variable, or itself."""
        # An empty text hides nothing, and an empty variable would be refused; a reference says where a secret is kept.
        if self._reveal or not secret or is_reference(secret):
            return escaped(secret)
        name = _name(kind, identity, at)
        number = 1
        while (unique := name if number == 1 else f"{name}_{number}") in self.values:
            number += 1
        self.values[unique] = secret
        return f"${{{unique}}}"

    def tree(self, value: Any, kind: str, identity: str, at: Path = ()) -> Any:
        """A document with secrets in their shells as it is written: every `$` doubled, every secret replaced."""
        if isinstance(value, SecretJson):
            return self._json(value.value(), kind, identity, at)
        if isinstance(value, Secret):
            return self.text(value.reveal(), kind, identity, at)
        if isinstance(value, str):
            return escaped(value)
        if isinstance(value, dict):
            return {name: self.tree(item, kind, identity, (*at, name)) for name, item in value.items()}
        if isinstance(value, list):
            return [self.tree(item, kind, identity, (*at, place)) for place, item in enumerate(value)]
        return value

    def _json(self, value: Any, kind: str, identity: str, at: Path) -> Any:
        """A sensitive JSON value: its texts are secrets, its shape and its numbers are not."""
        if isinstance(value, str):
            return self.text(value, kind, identity, at)
        if isinstance(value, dict):
            return {name: self._json(item, kind, identity, (*at, name)) for name, item in value.items()}
        if isinstance(value, list):
            return [self._json(item, kind, identity, (*at, place)) for place, item in enumerate(value)]
        return value


def _name(kind: str, identity: str, at: Path) -> str:
    parts = (kind.removesuffix("s"), identity, *map(str, at))
    return "_".join([PREFIX, *(_OTHER.sub("_", part.upper()) for part in parts)])
