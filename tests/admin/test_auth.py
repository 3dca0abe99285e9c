"""Admin credentials without HTTP."""

import hashlib

import pytest

from aisix_admin.auth import AdminKeys, credential
from aisix_common.secret import Secret


@pytest.mark.parametrize(
    ("authorization", "api_key", "presented"),
    [
        ("Bearer k", None, "k"),
        ("Bearer  k ", None, "k"),
        (None, "k", "k"),
        (None, " k ", "k"),
        (None, "", None),
        (None, None, None),
        ("Bearer ", None, None),
        ("bearer k", None, None),
        ("k", "k", None),
        ("Basic k", "k", None),
        ("Bearer\tk", None, None),
    ],
)
def test_the_credential_of_a_request(authorization: str | None, api_key: str | None, presented: str | None) -> None:
    assert credential(authorization, api_key) == presented


def test_positions_and_hashes() -> None:
    keys = AdminKeys([Secret("one"), Secret("two"), Secret("naïve")])
    assert [keys.position(text) for text in ("one", "two", "naïve", "three", "", None)] == [0, 1, 2, None, None, None]
    assert keys.position("\udcff") is None, "bytes that are no UTF-8 are a wrong key, not an error"
    assert keys.has_hash(hashlib.sha256(b"two").hexdigest())
    assert not keys.has_hash(hashlib.sha256(b"three").hexdigest())
    assert "one" not in repr(vars(keys))


def test_no_keys_let_nobody_in() -> None:
    assert AdminKeys([]).position("anything") is None
