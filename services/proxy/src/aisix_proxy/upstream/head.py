"""An `UpstreamRequest` as the bytes of its head. Pure, and the last gate before the wire: nothing that could end a line
early, or frame the body in another way than we do, gets through.
"""

import re
from typing import Final

from ..canonical.errors import Misconfigured
from ..canonical.http import UpstreamRequest

OURS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "expect", "te", "trailer"}
)
"""Headers that frame a message: written here or not at all."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_TARGET: Final = re.compile(r"/[!-~]*\Z")
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_KNOWN_NAMES: Final = 1024


class HeadWriter:
    """Writes heads; remembers which header names it has already checked (a bounded set, names only)."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def write(self, request: UpstreamRequest, authority: str) -> bytes:
        """The head with its blank line. Raises Misconfigured when the request cannot be put on a wire."""
        names = self._names
        lines = [f"{request.method} {request.path} HTTP/1.1\r\nHost: {authority}\r\n"]
        for name, value in request.headers:
            if name not in names:
                self._admit(name)
            lines.append(f"{name}: {value}\r\n")
        if request.body or request.method not in {"GET", "DELETE"}:
            lines.append(f"Content-Length: {len(request.body)}\r\n")
        ends = len(lines) + 2  # the first line brings Host along; the blank line
        lines.append("\r\n")
        text = "".join(lines)
        if text.count("\r\n") != ends or text.count("\n") != ends or text.count("\r") != ends or "\0" in text:
            self._refuse(request)
        if request.method not in _METHODS or not _TARGET.match(request.path):
            self._refuse(request)
        try:
            return text.encode("utf-8", "surrogateescape")  # as aiohttp decodes what callers sent: bytes survive
        except UnicodeEncodeError:
            raise _unsendable("a header's value is not text") from None

    def _admit(self, name: str) -> None:
        if not _TOKEN.match(name):
            raise _unsendable("a header's name has characters that HTTP does not allow")
        if name.lower() in OURS:
            raise _unsendable(f"the header {name.lower()} is the gateway's own to set")
        if len(self._names) >= _KNOWN_NAMES:
            self._names.clear()
        self._names.add(name)

    def _refuse(self, request: UpstreamRequest) -> None:
        """Find which part is wrong, and say so without showing it."""
        if request.method not in _METHODS:
            raise _unsendable("its method is none that providers are called with")
        if not _TARGET.match(request.path):
            raise _unsendable("its path does not begin with / or has blanks or characters beyond ASCII")
        for name, value in request.headers:
            if "\r" in value or "\n" in value or "\0" in value:
                raise _unsendable(f"the value of the header {name.lower()} holds a line break or NUL")
        raise _unsendable("its authority holds a line break or NUL")


def _unsendable(rule: str) -> Misconfigured:
    return Misconfigured(f"bridge is misconfigured: the request to the provider cannot be sent: {rule}")
