"""The constrained scalar types that several kinds share.

Bounds live in msgspec's Meta. What Meta cannot say stands in its `extra`, for the walker and for schemas derived from
these types:

- `width` (low, high): what the integer type of the wire can hold. Outside of it a document does not *parse*; below
  `ge` or above a tighter `le` it breaks the *schema* (control-plane 3.0).
- `min_length`: for Secret, whose length Meta does not see.
- `strict`: required when written, though not when read.
"""

from datetime import datetime
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

from aisix_common.secret import Secret

U32_MAX: Final = 2**32 - 1
U64_MAX: Final = 2**64 - 1
_I64_MAX: Final = 2**63 - 1


def u64(at_least: int = 0) -> Meta:
    """A 64-bit unsigned integer. msgspec has no bounds beyond 63 bits: the upper one is the walker's."""
    return Meta(ge=at_least, extra={"width": (0, U64_MAX)})


def u32(at_least: int = 0) -> Meta:
    """A 32-bit unsigned integer."""
    return Meta(ge=at_least, le=U32_MAX, extra={"width": (0, U32_MAX)})


def whole(low: int, high: int, width: tuple[int, int] = (0, U64_MAX)) -> Meta:
    """An integer from `low` to `high`, both included, of a type that holds `width`."""
    return Meta(ge=low, le=high, extra={"width": width})


Text: TypeAlias = Annotated[str, Meta(min_length=1)]
"""A string that is not empty."""
HeaderName: TypeAlias = Annotated[str, Meta(min_length=1, pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")]
"""A name that HTTP takes for a header (RFC 7230 token)."""
LowerHeaderName: TypeAlias = Annotated[str, Meta(min_length=1, pattern=r"^[!#$%&'*+.^_`|~0-9a-z-]+\Z")]
"""The same without capitals."""
Moment: TypeAlias = Annotated[datetime, Meta(tz=True)]
"""An RFC 3339 time with its zone."""
U64: TypeAlias = Annotated[int, u64()]
PositiveU64: TypeAlias = Annotated[int, u64(1)]
U32: TypeAlias = Annotated[int, u32()]
PositiveU32: TypeAlias = Annotated[int, u32(1)]
U8: TypeAlias = Annotated[int, Meta(ge=0, le=255, extra={"width": (0, 255)})]
I32: TypeAlias = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1, extra={"width": (-(2**31), 2**31 - 1)})]
Fraction: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
"""A number from 0 to 1, both included."""
NotNegative: TypeAlias = Annotated[float, Meta(ge=0)]
Status: TypeAlias = Annotated[int, Meta(ge=100, le=599)]
"""Any HTTP status."""
ErrorStatus: TypeAlias = Annotated[int, Meta(ge=400, le=599)]
"""An HTTP status that says failure."""
SecretText: TypeAlias = Annotated[Secret, Meta(extra={"min_length": 1})]
"""A Secret that is not empty."""
STRICT: Final = Meta(extra={"strict": True})
"""Marks a field that a writer must give and a reader fills with its default."""
