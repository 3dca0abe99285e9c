"""What callers are told whose requests cannot be parsed."""

import pytest
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from aisix_proxy.endpoints._server import unparsable


@pytest.mark.parametrize(
    ("error", "message", "status", "told"),
    [
        (LineTooLong(b"sk-key", 8190), "Got more than 8190 bytes when reading: b'sk-key'", 431, "too long"),
        (BadHttpMessage("x"), "Content-Length already present", 400, "conflicting Content-Length headers"),
        (BadHttpMessage("x"), "Content-Length can't be present with Transfer-Encoding", 400, "exclude each other"),
        (BadHttpMessage("x"), "Invalid character in Content-Length", 400, "not a number"),
        (BadHttpMessage("x"), "Request has invalid `Transfer-Encoding`", 501, "chunked is the only"),
        (BadHttpMessage("x"), "Invalid header value char: sk-key", 400, "not a valid HTTP/1.1 request"),
        (None, "", 400, "not a valid HTTP/1.1 request"),
    ],
)
def test_unparsable(error: Exception | None, message: str, status: int, told: str) -> None:
    found = unparsable(error, message)
    assert found.status == status
    assert told in found.message
    assert "sk-key" not in found.message
