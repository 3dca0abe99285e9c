"""Sensitive values in resources: how they get into their shells and out of them.

Which fields are sensitive follows from the type alone; these hooks are the only place that knows how JSON becomes a
Secret and back.
"""

from typing import Any

import msgspec

from aisix_common.secret import Secret


class SecretJson(Secret):
    """A sensitive JSON value of any shape. `reveal()` gives its JSON text, `value()` a fresh copy of the value."""

    __slots__ = ()

    @classmethod
    def of(cls, value: Any) -> "SecretJson":
        """Wrap a value made of JSON types."""
        return cls(msgspec.json.encode(value).decode())

    def value(self) -> Any:
        """The clear value."""
        return msgspec.json.decode(self.reveal())

    @property
    def stored(self) -> str | None:
        value = self.value() if self.reveal().startswith('"') else None
        return value if isinstance(value, str) else None


def conceal(kind: type, value: Any) -> Any:
    """msgspec's `dec_hook`: put a decoded JSON value into the shell its field asks for."""
    if kind is Secret:
        if isinstance(value, str):
            return Secret(value)
        raise ValueError("Expected `str`")
    if kind is SecretJson:
        return SecretJson.of(value)
    raise NotImplementedError(kind)
