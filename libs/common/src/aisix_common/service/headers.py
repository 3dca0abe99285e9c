"""The headers every response of the proxy carries: who answered, and under which request id (data-plane 12.1, 12.2)."""

import re
from collections.abc import Iterable, Iterator, Mapping
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
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_AT_ONCE: Final = 256


def new_request_id() -> str:
    """A fresh random UUID (version 4) as text."""
    return next(request_ids(1))


def request_ids(at_once: int = _AT_ONCE) -> Iterator[str]:
    """Such ids for ever, asking the system for the randomness of `at_once` of them at a time.

    For one thread, and not to be carried through a fork: both sides would go on with the same ids.
    """
    while True:
        pool = urandom(16 * at_once)
        for start in range(0, len(pool), 16):
            text = pool[start : start + 16].hex()
            yield f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:]}"


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
