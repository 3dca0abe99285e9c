"""The body of a request on its way in: declared as what we take, there in time, and whole.

Knows bytes only; `body` makes a document of them. The only place that waits for what a client sends.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from aiohttp import HttpVersion11, web

from ..body import require_json
from ..errors import BrokenBody, HungUp, TooSlow, UnmetExpectation, WrongMediaType
from ..server import EXPECT

_CONTINUE: Final = "100-continue"


def require_known_expectation(request: web.Request) -> None:
    """Raise UnmetExpectation when the client expects anything but 100-continue. HTTP/1.0 has no expectations."""
    expected = request.get(EXPECT)
    if expected is not None and request.version >= HttpVersion11 and expected.lower() != _CONTINUE:
        raise UnmetExpectation


async def read_body(request: web.Request, seconds: float) -> bytes:
    """All of the body; only now is a client told to go on that waits for that.

    Raises WrongMediaType (no JSON, or encoded), TooSlow after `seconds`, BrokenBody, HungUp, and aiohttp's own error
    for a body that is too large.
    """
    require_json(request.headers.get("Content-Type"))
    require_plain(request.headers.getall("Content-Encoding", []))
    if request.get(EXPECT) is not None and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer has not begun
    try:
        async with asyncio.timeout(seconds):
            return await request.read()
    except TimeoutError:
        raise TooSlow from None
    except web.RequestPayloadError:
        request.content.feed_eof()  # or aiohttp looks for the rest of it, and logs what it finds with a traceback
        raise BrokenBody from None
    except OSError:
        raise HungUp from None


def require_plain(encodings: Sequence[str]) -> None:
    """Raise WrongMediaType unless the Content-Encoding headers say that nothing was done to the body."""
    named = (name.strip().lower() for header in encodings for name in header.split(","))
    if any(name not in ("", "identity") for name in named):
        raise WrongMediaType("send the document as it is, without `Content-Encoding`")
