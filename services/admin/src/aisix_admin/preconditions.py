"""ETags and the conditions of a request (RFC 9110, 8.8.3 and 13.1). Pure; knows header texts and revisions only."""

import re
from dataclasses import dataclass
from typing import Final, Self

from .errors import Invalid, PreconditionFailed

_TAG: Final = re.compile(r"""(W/)?("[^\x00-\x20"\x7f]*")""")
_LIST: Final = re.compile(rf"[\s,]*(?:{_TAG.pattern}\s*(?:,[\s,]*|\Z))+\Z")
"""Empty members are read over, as RFC 9110, 5.6.1.2 asks."""


def etag(revision: int) -> str:
    """The strong tag of a row at a mod_revision."""
    return f'"{revision}"'


@dataclass(frozen=True, slots=True)
class Conditions:
    """`If-Match` and `If-None-Match`, read: the tags with their quotes (None: no such header), or `*` without."""

    match: frozenset[str] | None = None
    none_match: frozenset[str] | None = None

    @classmethod
    def read(cls, if_match: str | None, if_none_match: str | None) -> Self:
        """Raises Invalid for a header that is neither `*` nor a list of tags: ignoring it would write unasked."""
        return cls(_tags("If-Match", if_match, strong=True), _tags("If-None-Match", if_none_match, strong=False))

    def require(self, revision: int | None) -> None:
        """Raise PreconditionFailed unless a row at `revision` (None: there is none) may be written."""
        if self.match is not None and (revision is None or not _met(self.match, revision)):
            raise PreconditionFailed(revision)
        if self.none_match is not None and revision is not None and _met(self.none_match, revision):
            raise PreconditionFailed(revision)

    def unmodified(self, revision: int) -> bool:
        """Whether a reader already has what is there (304)."""
        return self.none_match is not None and _met(self.none_match, revision)


def _met(tags: frozenset[str], revision: int) -> bool:
    return "*" in tags or etag(revision) in tags


def _tags(name: str, header: str | None, *, strong: bool) -> frozenset[str] | None:
    if header is None:
        return None
    if header.strip() == "*":
        return frozenset("*")
    if _LIST.match(header) is None:
        raise Invalid(f'{name} must be `*` or entity tags in quotes, such as "42"')
    # A weak tag never equals anything where the comparison is strong (RFC 9110, 13.1.1).
    return frozenset(tag for weak, tag in _TAG.findall(header) if not (strong and weak))
