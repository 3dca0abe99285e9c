"""The secrets inside of a typed resource: found, and exchanged for others. Which they are follows from their type.

Besides, a kind may name plain fields that can hold a reference, too (`Kind.resolvable`): a caller key's hash.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

import msgspec

from aisix_common.secret import Secret, holds_reference, is_reference

from .flaw import Path
from .kind import Kind
from .sensitive import SecretJson

Value = TypeVar("Value")
_HOLDERS: Final = (Secret, msgspec.Struct, dict, tuple)
"""What a secret is, or may lie in."""


def secrets_in(value: Any, at: Path = ()) -> Iterator[tuple[Path, Secret]]:
    """(path in the document, secret) of every secret that is there."""
    if isinstance(value, Secret):
        yield at, value
        return
    parts: Iterable[tuple[str | int, Any]]
    if isinstance(value, msgspec.Struct):
        names = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
        parts = ((encoded, getattr(value, name)) for name, encoded in names)
    elif isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, tuple):
        parts = enumerate(value)
    else:
        return
    for name, part in parts:
        if isinstance(part, _HOLDERS):  # most parts are plain: asked of thousands of rows at a time
            yield from secrets_in(part, (*at, name))


def with_secrets(value: Value, change: Callable[[Path, Secret], Secret], at: Path = ()) -> Value:
    """`value` with every secret exchanged for what `change` gives; the same object where nothing changes."""
    changed: Any = _changed(value, change, at)
    return changed  # type: ignore[no-any-return]  # of the type that came in, part by part


def _changed(value: Any, change: Callable[[Path, Secret], Secret], at: Path) -> Any:
    if isinstance(value, Secret):
        return change(at, value)
    if isinstance(value, msgspec.Struct):
        fields = {
            name: (old, _changed(old, change, (*at, encoded)))
            for name, encoded in zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
            if isinstance(old := getattr(value, name), _HOLDERS)
        }
        news = {name: new for name, (old, new) in fields.items() if new is not old}
        return msgspec.structs.replace(value, **news) if news else value
    if isinstance(value, dict):
        items = {name: _changed(old, change, (*at, name)) for name, old in value.items()}
        return items if any(items[name] is not old for name, old in value.items()) else value
    if isinstance(value, tuple):
        parts = tuple(_changed(old, change, (*at, place)) for place, old in enumerate(value))
        return parts if any(new is not old for new, old in zip(parts, value, strict=True)) else value
    return value


def references_in(kind: Kind[Any], value: Any) -> Iterator[tuple[Path, str]]:
    """(path, text) of every secret reference that a resource holds, whether it can be resolved or not."""
    for at, secret in secrets_in(value):
        text = secret.stored
        if text is not None and is_reference(text):
            yield at, text
    for name in kind.resolvable:
        text = getattr(value, name, None)
        if isinstance(text, str) and is_reference(text):
            yield (name,), text


def embedded_in(value: Any) -> Iterator[Path]:
    """The paths of secrets that hold a reference as a part of them: behind a `Bearer`, in a member of an object. Nobody
    would resolve it, and its text would be used."""
    for at, secret in secrets_in(value):
        text = secret.stored
        if not (text is not None and is_reference(text)) and holds_reference(secret.reveal()):
            yield at


def with_references(kind: Kind[Any], value: Value, change: Callable[[Path, str], str]) -> Value:
    """`value` with the text of every reference exchanged for what `change` gives: another spelling of it."""

    def spelled(at: Path, secret: Secret) -> Secret:
        text = secret.stored
        if text is None or not is_reference(text) or (new := change(at, text)) == text:
            return secret
        return SecretJson.of(new) if isinstance(secret, SecretJson) else Secret(new)

    value = with_secrets(value, spelled)
    for name in kind.resolvable:
        text = getattr(value, name, None)
        if isinstance(text, str) and is_reference(text) and (new := change((name,), text)) != text:
            value = msgspec.structs.replace(value, **{name: new})  # type: ignore[type-var]  # it has such a field
    return value


def resolved(kind: Kind[Any], value: Value, known: Callable[[str], Secret]) -> Value:
    """`value` with the secret that `known` gives for each reference's text in its place. `known` may raise.

    A plain field gets what its kind makes of the secret: a key's hash.
    """

    def secret(at: Path, held: Secret) -> Secret:
        text = held.stored
        if text is None or not is_reference(text):
            return held
        found = known(text)
        return SecretJson.of(found.reveal()) if isinstance(held, SecretJson) else found

    value = with_secrets(value, secret)
    for name, made in kind.resolvable.items():
        text = getattr(value, name, None)
        if isinstance(text, str) and is_reference(text):
            value = msgspec.structs.replace(value, **{name: made(known(text).reveal())})  # type: ignore[type-var]
    return value
