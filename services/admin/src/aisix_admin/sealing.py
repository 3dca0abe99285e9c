"""Secrets on their way into etcd: sealed under the keyring, or refused where there is none (design 7).

Pure but for the keyring, which changes when its files do: it is asked for at every use.
"""

from collections.abc import Callable, Mapping
from typing import Any

from aisix_common.resources import Flaw, Kind, document
from aisix_common.secrets.canary import canary_row, verify
from aisix_common.secrets.envelope import Keyring
from aisix_common.secrets.rows import Stored, opened, sealed

from .errors import NoKeyring, WrongKeyring


class Sealing:
    """What the planner needs to know of the keyring. It never opens what is kept: that works without the key."""

    def __init__(self, keyring: Callable[[], Keyring], *, allow_plaintext: bool) -> None:
        """`allow_plaintext`: secrets are stored in clear while there is no keyring."""
        self._keyring = keyring
        self._allow_plaintext = allow_plaintext

    def sealed(self, kind: Kind[Any], id: str, plain: Mapping[str, Any], value: Any) -> Stored:
        """The document `plain` of the typed `value` as it is to be stored. Raises NoKeyring."""
        made = sealed(kind, id, plain, value, self._keyring())
        if made.clear and not self._allow_plaintext:
            raise NoKeyring([Flaw(at, "").pointer for at in made.clear])
        return made

    def canary(self, row: bytes | None) -> bytes | None:
        """What has to be written as the canary row before anything may be sealed; None where `row` is right already.

        Raises WrongKeyring for a row that this keyring does not open.
        """
        if row is None:
            return canary_row(self._keyring())
        reason = verify(row, self._keyring())
        if reason is not None:
            raise WrongKeyring(reason)
        return None

    def clear(self, kind: Kind[Any], id: str, value: Any) -> dict[str, Any]:
        """The document with every secret in clear that this keyring opens, to find out what changes. Never stored."""
        return document(kind, opened(kind, id, value, self._keyring(), leave_closed=True))
