"""The canary: the own keyring agrees, every other is told what to do."""

import json
from itertools import count

import pytest

from aisix_common.secrets.canary import CONTEXT, canary_key, canary_of, canary_row, verify
from aisix_common.secrets.envelope import NO_KEYRING, CannotSeal, Keyring
from aisix_common.secrets.rows import context

ONE, TWO = b"1" * 32, b"2" * 32
K1 = Keyring([("k1", ONE)])
ROW = canary_row(K1)


@pytest.mark.parametrize(
    ("row", "keyring", "said"),
    [
        (ROW, K1, None),
        (ROW, Keyring([("k2", TWO), ("k1", ONE)]), None),
        (ROW, Keyring([("k2", TWO)]), '"k1", which is not in this service\'s keyring (its keys are k2): add'),
        (ROW, Keyring([("k1", TWO)]), '"k1", and this service\'s key of that name is another one'),
        (ROW, NO_KEYRING, '"k1", and this service has no keyring: set secrets.keyring'),
        (b"{", K1, "is damaged"),
        (b"{}", K1, "is damaged"),
        (b'{"key":"k1","canary":"plain"}', K1, "is damaged"),
        (ROW[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", K1, "is damaged"),
        (json.dumps({"key": "k1", "canary": K1.seal("other", CONTEXT)}).encode(), K1, "is another one"),
        (json.dumps({"key": "k1", "canary": K1.seal("aisix keyring", b"elsewhere")}).encode(), K1, "is another one"),
    ],
    ids=count(),
)
def test_who_may_write(row: bytes, keyring: Keyring, said: str | None) -> None:
    reason = verify(row, keyring)
    assert reason is None if said is None else said in (reason or "")


def test_the_row() -> None:
    assert canary_key("/run/aisix") == "/run/aisix/keyring"
    assert json.loads(ROW)["key"] == "k1"
    assert json.loads(ROW)["canary"].startswith("enc:v1:k1:")
    assert (canary_of(ROW), canary_of(b"x")) == ("k1", None)
    assert context("", "", ()) != CONTEXT
    with pytest.raises(CannotSeal):
        canary_row(NO_KEYRING)
