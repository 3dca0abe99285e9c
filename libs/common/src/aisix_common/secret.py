"""A text that must not be seen: its `repr`, `str` and format show nothing, and it comes out by one method.

Which fields of a resource are sensitive follows from this *type* alone (design 6): masking, encryption, redaction and
the leak tests look for it, so nobody keeps a list.
"""

import hmac
import re
from typing import Any, Final, NoReturn

MASK: Final = "***"
SEALED: Final = "enc:v1:"
"""What the text of a secret that lies encrypted begins with (design 7)."""
_REFERENCE: Final = re.compile(r"\$(?:secret|env)://", re.IGNORECASE)


def is_reference(text: str) -> bool:
    """Whether `text` says where a secret is to be had, instead of being one: `$secret://...` or `$env://...`, in any
    letter case (customer-documents 6.4). Such a text is never used as a secret itself."""
    return _REFERENCE.match(text) is not None


def holds_reference(text: str) -> bool:
    """Whether a reference stands anywhere in `text`. What is not a reference as a whole is used as it stands."""
    return _REFERENCE.search(text) is not None


def is_sealed(text: str) -> bool:
    """Whether `text` is an encrypted secret."""
    return text.startswith(SEALED)


class Secret:
    """An immutable secret text. Equal by content, compared in constant time; neither ordered nor picklable."""

    __slots__ = ("__text",)

    def __init__(self, text: str) -> None:
        self.__text = text

    def reveal(self) -> str:
        """The clear text. `grep -n 'reveal()'` lists every place where a secret leaves its shell."""
        return self.__text

    @property
    def stored(self) -> str | None:
        """The text that stands in the document; None where that is no text. Sealed or a reference as it may be."""
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
