"""The checksum, by the examples of RFC 3720 (B.4)."""

import pytest

from aisix_proxy.secret_managers.crc32c import crc32c


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_checksums(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected
