"""Secrets that may hold several: a JSON object, and a key behind the secret's name in the reference. Pure."""

from collections.abc import Sequence

from aisix_common.secret import Secret
from aisix_common.secrets.environment import NotReadable, member

from .base import NoSuchSecret


def split(path: Sequence[str]) -> tuple[str, str | None]:
    """(name, key) of a path whose first segment alone is the secret's name; the key may hold slashes."""
    name, *rest = path
    return name, "/".join(rest) or None


def part(text: str, key: str | None) -> Secret:
    """The secret that a reference means: all of `text`, or what it holds under `key`. Raises NoSuchSecret."""
    if key is None:
        if not text:
            raise NoSuchSecret("the secret is empty")
        return Secret(text)
    try:
        return member(text, key)
    except NotReadable as reason:
        raise NoSuchSecret(f"the secret {reason}") from None


def decoded(data: bytes) -> str:
    """Bytes as text. Raises NoSuchSecret for what is no UTF-8: it cannot be a key."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise NoSuchSecret("the secret holds bytes that are not UTF-8 text") from None
