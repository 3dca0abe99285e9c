"""What a kind is: everything the readers, the snapshot and the admin need to know of it, as one value.

Adding a kind is one module with a Struct and a `Kind`, and one line in KINDS.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Generic, TypeVar

import msgspec

from .flaw import Flaw
from .reference import Reference
from .sensitive import conceal
from .shapes import members

Resource = TypeVar("Resource", bound=msgspec.Struct)


def _no_rules(value: Any, strict: bool) -> Sequence[Flaw]:
    return ()


def _no_references(value: Any) -> Sequence[Reference]:
    return ()


def _as_is(value: Resource) -> tuple[Resource, tuple[str, ...]]:
    return value, ()


@dataclass(frozen=True, slots=True, eq=False)
class Kind(Generic[Resource]):
    """One kind of resource. Compared by identity."""

    name: str
    """The segment of its etcd keys, and the collection of the admin API: `models`."""
    struct: type[Resource] | UnionType
    """The frozen Struct that is the one definition of its fields, or a union of such, told apart by their tags."""
    name_field: str | None
    """The field that names a row; unique within the kind (the later of two rows is shadowed). None: rows have no name
    that must be unique."""
    nulls: bool
    """Whether an explicit null stands for an absent optional field. Where not, a null is a type error."""
    rules: Callable[[Resource, bool], Sequence[Flaw]] = _no_rules
    """The rules between fields; the flag is True for writes (strict), False for reads."""
    settle: Callable[[Resource], tuple[Resource, tuple[str, ...]]] = _as_is
    """Normalise after the rules: strip what does not apply (its names are the second part), tidy lists."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Older spelling -> field. Exactly one of both may be given."""
    tombstones: frozenset[str] = frozenset()
    """Unknown paths that are never reported: fields that once existed and mean nothing."""
    terse: frozenset[str] = frozenset()
    """Fields left out of documents while they hold their default."""
    singleton: bool = False
    """At most one row is meant to exist: its name is the kind's own."""
    label_field: str | None = None
    """The field people know a row by, where it is not the one that names it."""
    destinations: tuple[str, ...] = ()
    """The fields that decide where the kind's secrets are sent, and whom we trust to be there: whoever changes one of
    them has to give the secrets again (design 7)."""
    references: Callable[[Resource], Sequence[Reference]] = _no_references
    """The other rows that a row names."""
    resolvable: Mapping[str, Callable[[str], str]] = field(default_factory=dict)
    """Plain fields that may hold a secret reference, with what is made of the secret that it leads to."""
    external: bool = False
    """The kind lies under the ext root of etcd: other gateways on the same etcd do not know it (design 5)."""
    type_name: str = ""
    """What one row is called in messages: `Model`. The Struct's name, unless it is given (as for a union)."""
    structs: tuple[type[msgspec.Struct], ...] = field(init=False, repr=False)
    """The Structs a row can be: one, or the members of the union."""
    decoder: "msgspec.json.Decoder[Resource]" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        structs = members(self.struct)
        object.__setattr__(self, "structs", structs)
        object.__setattr__(self, "type_name", self.type_name or structs[0].__name__)
        object.__setattr__(self, "decoder", msgspec.json.Decoder(self.struct, dec_hook=conceal))

    def name_of(self, value: Resource) -> str | None:
        """The row's name (for api_keys its key hash, which must not be shown); None where rows have none."""
        if self.singleton:
            return self.name
        return None if self.name_field is None else str(getattr(value, self.name_field))

    def label_of(self, value: Resource) -> str | None:
        """What people call the row, or None."""
        field = self.label_field or self.name_field
        label = getattr(value, field, None) if field is not None else None
        return label if isinstance(label, str) else None
