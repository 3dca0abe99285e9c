"""An explicit tuple of named members: what registries such as KINDS and ADAPTERS are made of.

Adding a member is one line that reviewers, grep and the type checker see (design 4.5).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

Member = TypeVar("Member")


def index(members: tuple[Member, ...], name: Callable[[Member], str]) -> Mapping[str, Member]:
    """A read-only view of `members` by name, in their order.

    Raises ValueError when two members share a name: that is a mistake in the code, found at import.
    """
    by_name: dict[str, Member] = {}
    for member in members:
        key = name(member)
        if key in by_name:
            raise ValueError(f"two members of one registry are called {key!r}")
        by_name[key] = member
    return MappingProxyType(by_name)
