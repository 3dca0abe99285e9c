"""What the index keeps of a row - its name, its label, and the rows it refers to - from its value or from its bytes.

Pure.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeAlias

import msgspec

from aisix_common.resources import SECRET_PROVIDERS, Kind, Loaded, read
from aisix_common.resources.concealed import references_in
from aisix_common.secret import is_reference
from aisix_common.secrets.reference import BadReference, SecretReference, parse

from .masks import secret_paths

Pointed: TypeAlias = tuple[str, str, str]
"""What a row refers to: kind, `id` or `name`, and which."""


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What the index keeps of one row. `gc=False`: holds no cycles, and there are tens of thousands."""

    name: str | None = None
    """What is unique within the kind (for api_keys the key's hash, not to be shown)."""
    label: str | None = None
    """What people call it, in kinds whose name is not for people ("" where it has none)."""
    points: tuple[Pointed, ...] = ()
    """The hard references, and the secret providers that its secrets come from."""

    @property
    def called(self) -> str | None:
        """The label, else the name."""
        return self.label if self.label is not None else self.name


NOTHING: Final = Facts()
Reader: TypeAlias = Callable[[str, bytes], Facts]
"""Gives the facts of a stored row of a kind. Never raises."""

_DEFAULT_REFERENCES: Final = Kind.__dataclass_fields__["references"].default
_REFERS: Final = re.compile(rb"[$\\]")
"""What the bytes of a row with a reference hold: a dollar, or one that is spelt as an escape."""


class FactReader:
    """Reads facts out of stored bytes. A row that is no document of its kind still holds the name it has."""

    def __init__(self, kinds: Iterable[Kind[Any]]) -> None:
        self._kinds: Final[Mapping[str, Kind[Any]]] = {kind.name: kind for kind in kinds}
        # The label of an api_keys row is not its name, and its soft references are not kept: one plain decode does.
        typed = [kind for kind in self._kinds.values() if kind.label_field is None or _derived(kind)]
        self._pointing = {kind.name for kind in typed if kind.references is not _DEFAULT_REFERENCES or _derived(kind)}
        self._holding = {kind.name for kind in typed if may_refer(kind)}

    def __call__(self, kind: str, value: bytes) -> Facts:
        described = self._kinds[kind]
        if kind in self._pointing or (kind in self._holding and _REFERS.search(value)):
            loaded = read(described, value)
            if isinstance(loaded, Loaded):
                return facts_of(described, loaded.value)
        return _raw_facts(described, value)


def facts_of(kind: Kind[Any], value: Any) -> Facts:
    """The facts of a typed resource."""
    points: list[Pointed] = [(each.kind, each.by, each.value) for each in kind.references(value) if each.hard]
    points += (pointed for _, pointed in providers_of(kind, value))
    label = (kind.label_of(value) or "") if kind.label_field else None
    return Facts(kind.name_of(value), label, tuple(dict.fromkeys(points)))


def providers_of(kind: Kind[Any], value: Any) -> Iterator[tuple[Sequence[str | int], Pointed]]:
    """(path, provider) of every secret reference in a typed resource that leads to a manager."""
    for at, text in references_in(kind, value) if may_refer(kind) else ():
        pointed = _provider(text)
        if pointed is not None:
            yield at, pointed


@cache
def may_refer(kind: Kind[Any]) -> bool:
    """Whether a resource of this kind has a place for a secret reference."""
    return bool(kind.resolvable) or bool(secret_paths(kind.struct))


def _provider(text: str) -> Pointed | None:
    """The provider of a reference in its long form, which is how we store it: others may have written other things."""
    try:
        reference = parse(text)
    except BadReference:
        return None
    if not isinstance(reference, SecretReference):
        return None
    return SECRET_PROVIDERS.name, "name", f"{reference.manager}/{reference.segments[0]}"


def _raw_facts(kind: Kind[Any], value: bytes) -> Facts:
    if kind.singleton:
        return Facts(kind.name)
    try:
        document = msgspec.json.decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return NOTHING
    if not isinstance(document, dict):
        return NOTHING
    for older, present in kind.renamed.items():
        if older in document and present not in document:
            document[present] = document[older]
    name = document.get(kind.name_field) if kind.name_field else None
    label = document.get(kind.label_field) if kind.label_field else None
    shown = label if isinstance(label, str) else "" if kind.label_field else None
    if not isinstance(name, str):
        return Facts(None, shown)
    # A caller key whose hash is a reference. There are tens of thousands of rows: the first letter decides.
    pointed = _provider(name) if name.startswith("$") and kind.resolvable and is_reference(name) else None
    return Facts(name, shown, () if pointed is None else (pointed,))


def _derived(kind: Kind[Any]) -> bool:
    """Whether the name is no field of the document, but made of several."""
    fields = {name for struct in kind.structs for name in struct.__struct_fields__}
    return kind.name_field is not None and kind.name_field not in fields
