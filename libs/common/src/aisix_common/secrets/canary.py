"""The canary row: what tells a writer that its keyring is not the one the stored secrets were encrypted with, before
it writes (design 7). Pure.

    <run root>/keyring   {"key": "<id of the key that seals>", "canary": "enc:v1:..."}
"""

from typing import Final

import msgspec

from .envelope import CannotOpen, Keyring, key_id_of

TEXT: Final = "aisix keyring"
CONTEXT: Final = msgspec.json.encode(["aisix", "v1", "keyring"])
"""Shorter than that of any resource's secret: the canary cannot stand in for one."""


class Canary(msgspec.Struct, frozen=True):
    """The row."""

    key: str
    canary: str


def canary_key(run_root: str) -> str:
    """The key of the row in etcd; `run_root` is `settings.etcd.run_root`."""
    return f"{run_root}/keyring"


def canary_row(keyring: Keyring) -> bytes:
    """The row of a keyring, made anew. Raises CannotSeal for an empty one."""
    return msgspec.json.encode(Canary(keyring.first, keyring.seal(TEXT, CONTEXT)))


def canary_of(row: bytes) -> str | None:
    """The id of the key that a row is sealed with; None for what is no such row."""
    try:
        return key_id_of(msgspec.json.decode(row, type=Canary).canary)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # CannotOpen is a ValueError
        return None


def verify(row: bytes, keyring: Keyring) -> str | None:
    """Why a service with this keyring must not write secrets, in words for operators; None where it may."""
    key = canary_of(row)
    if key is None:
        return (
            "the row that says which keyring encrypts the stored secrets is damaged: see `aisix secrets status`, and "
            "delete that row when every secret opens; the next write makes it anew"
        )
    try:
        if keyring.open(msgspec.json.decode(row, type=Canary).canary, CONTEXT) == TEXT:
            return None
    except CannotOpen:
        pass
    head = f'the stored secrets are encrypted with key "{key}", '
    if not keyring:
        return f"{head}and this service has no keyring: set secrets.keyring to the one they were encrypted with"
    if key not in keyring.ids:
        keys = ", ".join(keyring.ids)
        return f"{head}which is not in this service's keyring (its keys are {keys}): add that key to secrets.keyring"
    return (
        f"{head}and this service's key of that name is another one: give it the key they were encrypted with "
        "(a key that was lost cannot be made anew)"
    )
