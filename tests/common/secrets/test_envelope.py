"""Sealed texts: what goes in comes out in its own place, with its own key, and nowhere else."""

import base64
import re
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisix_common.secrets.envelope import (
    KEY_BYTES,
    NO_KEYRING,
    NONCE_BYTES,
    CannotOpen,
    CannotSeal,
    Keyring,
    decode_key,
    is_key_id,
    key_id_of,
    new_key,
)

ONE, TWO, OTHER = (bytes([number]) * KEY_BYTES for number in (1, 2, 3))
K1 = Keyring([("k1", ONE)])
K2_K1 = Keyring([("k2", TWO), ("k1", ONE)])
TEXT = "canary-8181"
SEALED = K1.seal(TEXT, b"here")


@given(st.text(), st.binary(max_size=40))
def test_there_and_back(text: str, context: bytes) -> None:
    sealed = K2_K1.seal(text, context)
    assert re.fullmatch(r"enc:v1:k2:[A-Za-z0-9+/]+={0,2}", sealed)
    assert K2_K1.open(sealed, context) == text


def test_a_lone_surrogate_survives() -> None:
    assert K1.open(K1.seal("\ud800", b""), b"") == "\ud800"


def test_a_text_is_never_sealed_alike() -> None:
    assert len({K1.seal(TEXT, b"here") for _ in range(100)}) == 100


def test_all_keys_open_and_the_first_one_seals() -> None:
    assert K2_K1.open(SEALED, b"here") == TEXT
    assert (K2_K1.first, K2_K1.ids, K1.first) == ("k2", ("k2", "k1"), "k1")
    assert key_id_of(SEALED) == "k1"


def flipped(sealed: str, at: int) -> str:
    """`sealed` with one bit of its bytes turned."""
    head, data = sealed.rsplit(":", 1)
    raw = bytearray(base64.b64decode(data))
    raw[at] ^= 1
    return f"{head}:{base64.b64encode(raw).decode()}"


SHORT = base64.b64encode(b"x" * NONCE_BYTES).decode()


@pytest.mark.parametrize(
    ("sealed", "context", "keyring", "said", "key"),
    [
        (SEALED, b"there", K1, "moved here from another place", "k1"),
        (flipped(SEALED, 0), b"here", K1, "damaged", "k1"),
        (flipped(SEALED, NONCE_BYTES), b"here", K1, "damaged", "k1"),
        (flipped(SEALED, -1), b"here", K1, "damaged", "k1"),
        (SEALED, b"here", Keyring([("k1", OTHER)]), "another key of the same name", "k1"),
        (SEALED.replace("k1", "k2"), b"here", K2_K1, "another key of the same name", "k2"),
        (SEALED, b"here", Keyring([("k2", ONE)]), "not in the keyring (its keys are k2)", "k1"),
        (SEALED, b"here", NO_KEYRING, "not in the keyring (no keyring is configured)", "k1"),
        ("enc:v1:k1:", b"here", K1, "damaged", "k1"),
        (f"enc:v1:k1:{SHORT}", b"here", K1, "damaged", "k1"),
        ("enc:v1:k1:no base64!", b"here", K1, "it is not base64", "k1"),
        ("enc:v1:k1:\ud800", b"here", K1, "it is not base64", "k1"),
        (SEALED[:-1], b"here", K1, "it is not base64", "k1"),
        ("enc:v1:k1", b"here", K1, "damaged", "k1"),
        ("enc:v1:", b"here", K1, "it names no key", ""),
        (f"enc:v1:k/1:{SHORT}", b"here", K1, "it names no key", ""),
        (f"enc:v2:k1:{SHORT}", b"here", K1, "it names no key", ""),
        (TEXT, b"here", K1, "it names no key", ""),
    ],
    ids=count(),
)
def test_what_does_not_open(sealed: str, context: bytes, keyring: Keyring, said: str, key: str) -> None:
    with pytest.raises(CannotOpen, match=re.escape(said)) as caught:
        keyring.open(sealed, context)
    assert caught.value.key_id == key
    assert TEXT not in str(caught.value)
    assert caught.value.__cause__ is None


def test_nothing_is_sealed_without_a_key() -> None:
    assert not NO_KEYRING
    assert K1
    assert NO_KEYRING.first == ""
    with pytest.raises(CannotSeal, match=re.escape("secrets.keyring")):
        NO_KEYRING.seal(TEXT, b"")


@pytest.mark.parametrize(
    "keys", [[("k", b"short")], [("", ONE)], [("a b", ONE)], [("k", ONE), ("k", TWO)], [("k" * 65, ONE)]]
)
def test_keys_that_are_none(keys: list[tuple[str, bytes]]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keyring(keys)


@pytest.mark.parametrize(
    ("text", "fits"),
    [("a", True), ("A.b_c-9", True), ("k" * 64, True), ("k" * 65, False), ("", False), ("a:b", False), ("ä", False)],
)
def test_ids_of_keys(text: str, fits: bool) -> None:
    assert is_key_id(text) is fits
    assert is_key_id(f"{text}\n") is False


def test_a_keyring_shows_no_key() -> None:
    assert repr(K2_K1) == "Keyring(k2, k1)"
    assert base64.b64encode(ONE).decode() not in str(vars(K2_K1))


def test_keys_are_32_bytes_in_base64() -> None:
    assert len(decode_key(f" {new_key()}\n")) == KEY_BYTES
    assert new_key() != new_key()
    assert decode_key(base64.b64encode(ONE).decode()) == ONE


@pytest.mark.parametrize("text", ["", "x", ONE.decode(), base64.b64encode(ONE[:-1]).decode(), "A" * 43, "ü" * 44])
def test_a_key_that_is_none_is_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="32 bytes in base64") as caught:
        decode_key(text)
    assert len(text) < 2 or text not in str(caught.value)
