"""What `$env://` may read: variables that an allow-list names, and never those of the gateway's own configuration.

An exact name, always: a variable whose name another one begins with is another variable. Pure: the environment comes
in.
"""

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from aisix_common.secret import Secret

from .reference import EnvReference

_OWN_PREFIX: Final = "AISIX_"
_OFFERED: Final = "AISIX_SECRET_"
"""The one beginning of ours that users may give their secrets."""


class NotReadable(ValueError):
    """A variable that may not be read, or holds nothing. The message may be shown."""


class EnvPolicy:
    """Which variables references may name."""

    def __init__(self, allow: Collection[str], own: Collection[str], *, enabled: bool = True) -> None:
        """`allow`: patterns (`*` matches anything). `own`: variables that hold secrets of the gateway itself."""
        self._allow = tuple(allow)
        self._own = frozenset(own)
        self._enabled = enabled

    def refusal(self, name: str) -> str | None:
        """Why `name` may not be read; None where it may."""
        if not self._enabled:
            return "$env:// is off in managed mode: secrets.env_in_managed turns it on"
        if name in self._own or (name.upper().startswith(_OWN_PREFIX) and not name.startswith(_OFFERED)):
            return "names a variable of the gateway's own configuration, which no reference may read"
        if not any(fnmatchcase(name, pattern) for pattern in self._allow):
            return (
                f"names a variable that secrets.env_allow does not offer (it offers {', '.join(self._allow) or 'none'})"
            )
        return None

    def read(self, reference: EnvReference, environ: Mapping[str, str]) -> Secret:
        """The secret that a reference leads to. Raises NotReadable."""
        refusal = self.refusal(reference.name)
        if refusal is not None:
            raise NotReadable(refusal)
        text = environ.get(reference.name, "")
        if not text:
            raise NotReadable("names a variable that is not set, or is empty")
        return Secret(text) if reference.key is None else member(text, reference.key)


def member(text: str, key: str) -> Secret:
    """One member of a JSON object, as text; numbers and the like as their JSON. Raises NotReadable."""
    try:
        document = msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise NotReadable("has a key behind it, but does not hold a JSON object") from None
    value = document.get(key) if isinstance(document, dict) else None
    if value is None or value == "":
        raise NotReadable("does not hold a JSON object with a value under this key")
    return Secret(value if isinstance(value, str) else msgspec.json.encode(value).decode())
