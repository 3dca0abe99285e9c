"""Records under the keyring: each names its key, and opens in its own place only."""

import pytest

from aisix_common.secrets.envelope import NO_KEYRING, CannotOpen, Keyring
from aisix_common.sources.sealing import PLAIN, KeyringSealer, sealer_for

K1 = Keyring([("k1", b"1" * 32)])
K2_K1 = Keyring([("k2", b"2" * 32), ("k1", b"1" * 32)])


def test_there_and_back_also_after_the_keyring_has_changed() -> None:
    keyring = K1
    sealer = KeyringSealer(lambda: keyring)
    old = sealer.seal(b"canary", b"here")
    keyring = K2_K1
    new = sealer.seal(b"canary", b"here")
    assert (old[:3], new[:3]) == (b"\x02k1", b"\x02k2")
    assert sealer.unseal(old, b"here") == sealer.unseal(new, b"here") == b"canary"
    assert b"canary" not in old + new
    keyring = K1
    with pytest.raises(CannotOpen, match='key "k2", which is not in the keyring'):
        sealer.unseal(new, b"here")


@pytest.mark.parametrize("cut", [slice(0, 0), slice(0, 1), slice(0, 3), slice(0, 10), slice(0, -1), slice(1, None)])
def test_what_is_no_record(cut: slice) -> None:
    sealer = KeyringSealer(lambda: K1)
    with pytest.raises(ValueError):
        sealer.unseal(sealer.seal(b"canary", b"here")[cut], b"here")


def test_another_place() -> None:
    sealer = KeyringSealer(lambda: K1)
    with pytest.raises(ValueError, match="moved"):
        sealer.unseal(sealer.seal(b"canary", b"here"), b"there")
    with pytest.raises(ValueError):
        sealer.unseal(b"\xff\xff\xff", b"here")


def test_which_sealer() -> None:
    assert sealer_for(lambda: NO_KEYRING) is PLAIN
    assert sealer_for(lambda: K1).name == "aes-256-gcm"
