"""`aisix secrets status`: every row is counted once, what is wrong is named, and no secret is shown."""

import json
from itertools import count
from pathlib import Path

import pytest

from aisix_common.cli.secrets_status import status_of, told
from aisix_common.resources import PROVIDER_KEYS
from aisix_common.secrets.canary import canary_row
from aisix_common.secrets.census import Census
from aisix_common.secrets.envelope import NO_KEYRING, Keyring

from tests.common.cli.conftest import command
from tests.common.cli.stored_rows import SECRET, Stored
from tests.support.etcd import EtcdServer

K1 = Keyring([("k1", b"1" * 32)])
K2 = Keyring([("k2", b"2" * 32)])
CLEAR = b'{"display_name": "a", "api_key": "x"}'


async def test_what_is_stored(tmp_path: Path, etcd: EtcdServer, etcd_prefix: str) -> None:
    stored = Stored(tmp_path, etcd, etcd_prefix)
    rows = [
        stored.row("a", "k1"),
        stored.row("b", "k2", request={"default_headers": {"x": SECRET}}),
        stored.row("c"),
        stored.row("d", "gone"),
        stored.row("e", api_key="$env://AISIX_SECRET_A"),
        stored.row("v", "k2", kind="secret_providers"),
        (f"{etcd_prefix}/models/m", b"{}"),
        (stored.canary, canary_row(stored.keyring("k1"))),
    ]
    async with stored.client() as client:
        for key, value in rows:
            await client.put(key, value)
    run = command("secrets", "status", "--config", stored.config("k2", "k1"))
    assert run.returncode == 1, run.stderr
    assert run.stdout.splitlines() == [
        "keyring: k2 encrypts; k1 only decrypt(s)",
        "canary row: encrypted with k1",
        "7 row(s); of their secrets are",
        "  encrypted with gone: 1 in 1 row(s) (not in the keyring)",
        "  encrypted with k1: 1 in 1 row(s)",
        "  encrypted with k2: 3 in 2 row(s)",
        "  in clear: 1 in 1 row(s)",
        "  references: 1 in 1 row(s)",
        "1 row(s) hold secrets that do not open:",
        f'  {etcd_prefix}/provider_keys/d: /api_key is encrypted with key "gone", which is not in the keyring (its '
        "keys are k2, k1)",
        "1 row(s) cannot be read as their kind:",
        f'  {etcd_prefix}/models/m: schema validation failed at `/`: "display_name" is a required property',
        "`aisix secrets reencrypt` encrypts all that opens with the first key",
    ]
    shown = command("secrets", "status", "-c", stored.config("k2", "k1"), "--json")
    assert shown.returncode == 1
    status = json.loads(shown.stdout)
    assert (status["sound"], status["canary"], status["refused"]) == (False, "k1", None)
    assert status["keys"]["k2"] == {"rows": 2, "values": 3}
    assert status["unopened"]["rows"] == 1
    assert SECRET not in run.stdout + run.stderr + shown.stdout


@pytest.mark.parametrize(
    ("raw", "keyring", "canary", "sound"),
    [
        (None, NO_KEYRING, None, True),
        (None, K1, canary_row(K1), True),
        (CLEAR, NO_KEYRING, None, True),
        (CLEAR, K1, None, False),
        (None, K2, canary_row(K1), False),
        (None, NO_KEYRING, canary_row(K1), False),
        (None, K1, b"broken", False),
        (b"{}", NO_KEYRING, None, False),
    ],
    ids=count(),
)
def test_when_all_is_well(raw: bytes | None, keyring: Keyring, canary: bytes | None, sound: bool) -> None:
    census = Census()
    if raw is not None:
        census.add("row", PROVIDER_KEYS, "p", raw, keyring)
    status = status_of(census, keyring, canary)
    assert status.sound is sound
    assert ("refuse to store" in "\n".join(told(status, census))) is (status.refused is not None)
