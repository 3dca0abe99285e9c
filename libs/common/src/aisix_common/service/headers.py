"""The headers every response of the proxy carries: who answered, and under which request id (data-plane 12.1, 12.2)."""

import re
from collections.abc import Iterable, Mapping
from os import urandom
from typing import Final

from ..version import VERSION

SERVER: Final = f"AISIX/{VERSION}"
"""Value of the `Server` header; it replaces whatever an upstream sent."""

REQUEST_ID: Final = "x-aisix-request-id"
"""Header under which the request id goes back to the caller and on to the upstream."""

CALL_ID: Final = "x-aisix-call-id"
"""Chat answers carry the same value under this name too."""

_ACCEPTABLE: Final = re.compile(r"[\x21-\x7e]{1,256}\Z")
_VARIANT: Final = "89ab"


def new_request_id() -> str:
    """A fresh random UUID (version 4) as text; a fifth of what `str(uuid4())` costs."""
    text = urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{_VARIANT[int(text[16], 16) & 3]}{text[17:20]}-{text[20:]}"


def acceptable_request_id(value: str) -> bool:
    """Whether a caller may choose this id: 1 to 256 visible ASCII characters, no space.

    What passes is echoed and logged but proves nothing: it is not unique, no UUID, and never a metric label.
    """
    return _ACCEPTABLE.match(value) is not None


def chosen_request_id(headers: Mapping[str, str], accept: Iterable[str]) -> str | None:
    """The first acceptable id among the headers named in `accept`, in that order; None when the caller chose none.

    `headers` finds names in any case, or holds them in lower case as `accept` does.
    """
    for name in accept:
        value = headers.get(name)
        if value is not None and acceptable_request_id(value):
            return value
    return None
