"""Sealed rows for tests of what opens them."""

from collections.abc import Mapping

from msgspec import json

from aisix_common.resources import BY_NAME, check, document
from aisix_common.secrets.envelope import Keyring
from aisix_common.secrets.rows import context, sealed
from aisix_common.store.types import KeyValue

from .rows import row

OLD = Keyring([("old", b"o" * 32)])
NEW = Keyring([("new", b"n" * 32)])
BOTH = Keyring([("new", b"n" * 32), ("old", b"o" * 32)])
IMPOSTOR = Keyring([("old", b"x" * 32)])
"""Another key under the name of one that was."""
CLEAR = "sk-canary"


def provider_key(
    row_id: str, revision: int, keyring: Keyring = OLD, created: int | None = None, secret: object = CLEAR
) -> KeyValue:
    """A provider key with its secret sealed for its place."""
    return sealed_row("provider_keys", row_id, {"display_name": row_id, "api_key": secret}, revision, keyring, created)


def sealed_row(
    kind: str, row_id: str, given: Mapping[str, object], revision: int, keyring: Keyring, created: int | None = None
) -> KeyValue:
    """Any row with its secrets sealed for its place."""
    value = check(BY_NAME[kind], given)
    stored = sealed(BY_NAME[kind], row_id, document(BY_NAME[kind], value), value, keyring).document
    return row(f"{kind}/{row_id}", json.encode(stored), revision, created)


def with_unknown(row_id: str, revision: int, keyring: Keyring, created: int | None = None) -> KeyValue:
    """A provider key with a sealed secret in a field that nobody knows, too: a newer writer's."""
    known = json.decode(provider_key(row_id, revision, keyring).value)
    place = ("auth", "token")
    text = keyring.seal(CLEAR, context("provider_keys", row_id, place)) if keyring else CLEAR
    return row(f"provider_keys/{row_id}", json.encode({**known, "auth": {"token": text}}), revision, created)
