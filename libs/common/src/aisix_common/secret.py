"""A text that must not be seen: its `repr`, `str` and format show nothing, and it comes out by one method.

Which fields of a resource are sensitive follows from this *type* alone (design 6): masking, redaction and the leak
tests look for it, so nobody keeps a list.
"""

import hmac
from typing import Any, Final, NoReturn

MASK: Final = "***"


class Secret:
    """An immutable secret text. Equal by content, compared in constant time; neither ordered nor picklable."""

    __slots__ = ("__text",)

    def __init__(self, text: str) -> None:
        self.__text = text

    def reveal(self) -> str:
        """The clear text. `grep -n 'reveal()'` lists every place where a secret leaves its shell."""
        return self.__text

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self.__text.encode(), other.__text.encode())

    def __hash__(self) -> int:
        return hash(self.__text)

    def __bool__(self) -> bool:
        return bool(self.__text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never pickled")

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Secret":
        return self
