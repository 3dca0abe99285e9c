"""Content codings of answers. Pure. We never ask for one; gzip is undone all the same, because some front servers of
providers use it unasked, and everything else is refused.
"""

import zlib

from ..canonical.errors import UpstreamProtocol


def plain(body: bytes, coding: str, max_body: int) -> bytes:
    """`body` without its `coding` (the value of Content-Encoding), at most `max_body` long. Raises UpstreamProtocol."""
    if coding.lower() not in {"gzip", "x-gzip"}:
        raise UpstreamProtocol(unasked(coding))
    decoder = zlib.decompressobj(wbits=31)
    try:
        text = decoder.decompress(body, max_body + 1)
    except zlib.error:
        raise UpstreamProtocol("its body is not the gzip it claims to be") from None
    if len(text) > max_body:
        raise UpstreamProtocol(f"its body is larger than {max_body} bytes when unpacked")
    if not decoder.eof or decoder.unused_data:
        raise UpstreamProtocol("its gzip body is cut off or followed by other bytes")
    return text


def unasked(coding: str) -> str:
    """What to say of an answer in a coding that cannot be read."""
    return f"it is encoded ({coding[:32]!r}), which was not asked for"
