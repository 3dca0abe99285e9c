"""The checksum that Google puts beside data: CRC-32C (Castagnoli; RFC 3720, appendix B.4). Pure; 64 KiB, which is the
most that a secret holds there, take some ten milliseconds."""

from typing import Final

_REVERSED_POLYNOMIAL: Final = 0x82F63B78


def _entry(index: int) -> int:
    for _ in range(8):
        index = (index >> 1) ^ (_REVERSED_POLYNOMIAL if index & 1 else 0)
    return index


_TABLE: Final = tuple(map(_entry, range(256)))


def crc32c(data: bytes) -> int:
    """The checksum of `data`, as an unsigned number."""
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum = (checksum >> 8) ^ _TABLE[(checksum ^ byte) & 0xFF]
    return checksum ^ 0xFFFFFFFF
