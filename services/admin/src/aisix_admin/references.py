"""Secret references in documents that are written: well formed, leading to a provider, and in their long form. Pure.

What a reference leads to is the proxies' to find out; here it is only looked at where it says it is.
"""

from collections.abc import Callable, Collection
from typing import Any, Final, Self, TypeVar

from aisix_common.resources import Flaw, Kind
from aisix_common.resources.concealed import references_in, with_references
from aisix_common.resources.flaw import Path
from aisix_common.secret import is_reference
from aisix_common.secrets.environment import EnvPolicy
from aisix_common.secrets.reference import BadReference, EnvReference, parse, place

Value = TypeVar("Value")


class References:
    """What references may say here."""

    def __init__(self, names: Callable[[str], Collection[str]], env: EnvPolicy) -> None:
        """`names`: of the providers that a manager has, whenever it is asked. `env`: what `$env://` may read."""
        self._names = names
        self._env = env

    def names(self, manager: str) -> Collection[str]:
        """The names of the providers of a manager."""
        return self._names(manager)

    def along(self, coming: Collection[str], going: Collection[str]) -> Self:
        """The same, as it will be with other providers (`<manager>/<name>`) that are written and deleted together
        with what refers to them."""

        def names(manager: str) -> Collection[str]:
            known = {f"{manager}/{name}" for name in self._names(manager)}
            found = (each.partition("/") for each in (known - set(going)) | set(coming))
            return frozenset(name for of, _, name in found if of == manager)

        return type(self)(names, self._env) if coming or going else self

    def flaws(self, kind: Kind[Any], value: Any, known: Collection[str] = ()) -> list[Flaw]:
        """What is wrong with the references in `value`. Those in `known` stay as they are stored: an edit of something
        else must not fail because a provider went away."""
        found: list[Flaw] = []
        for at, text in references_in(kind, value):
            if text not in known:
                try:
                    self._long(text)
                except BadReference as error:
                    found.append(Flaw(at, str(error)))
        return found

    def spelled(self, kind: Kind[Any], value: Value, known: Collection[str] = ()) -> Value:
        """`value` (without flaws) with its references in their long form, but for those in `known`: the short form
        means whatever provider there is, and what is stored must go on meaning what it meant."""

        def long(at: Path, text: str) -> str:
            return text if text in known else self._long(text)

        return with_references(kind, value, long)

    def text(self, text: str) -> str:
        """The long form of a reference; what is none, or leads nowhere, as it is."""
        try:
            return self._long(text) if is_reference(text) else text
        except BadReference:
            return text

    def _long(self, text: str) -> str:
        reference = parse(text)
        if isinstance(reference, EnvReference):
            refusal = self._env.refusal(reference.name)
            if refusal is not None:
                raise BadReference(refusal)
            return reference.text
        return place(reference, self._names(reference.manager)).text


NO_PROVIDERS: Final = References(lambda manager: (), EnvPolicy((), ()))
"""Where there is nothing that references may say."""


def texts_in(kind: Kind[Any], value: Any) -> frozenset[str]:
    """The references that a typed resource holds; None holds none."""
    return frozenset(text for _, text in references_in(kind, value)) if value is not None else frozenset()
