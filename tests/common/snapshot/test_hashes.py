"""The fingerprints, held against the rule written out by hand."""

import hashlib

from aisix_common.snapshot import apply, build, config_hash, empty, source_hash
from aisix_common.snapshot.hashes import canonical

from .rows import BAD, LATER, NOON, PREFIX, changes, listing, row

KEY = b'{"key_hash":"h\xc3\xa9","allowed_models":[], "n":1e-05}'


def sha(*rows: tuple[str, bytes]) -> str:
    return hashlib.sha256(b"".join(key.encode() + b"\x00" + value + b"\n" for key, value in rows)).hexdigest()


def test_both_hashes_by_hand() -> None:
    rows = listing(
        row("models/z", b"{ nonsense", 2), row("api_keys/a", KEY, 1), row("guardrails/g", b'{"b":1,"a":2}', 3)
    )
    snapshot = build(rows, empty(PREFIX), NOON)
    good = ("/aisix/api_keys/a", b'{"allowed_models":[],"key_hash":"h\xc3\xa9","n":0.00001}')
    assert config_hash(snapshot) == sha(good)
    assert source_hash(snapshot) == sha(
        good, ("/aisix/guardrails/g", b'{"a":2,"b":1}'), ("/aisix/models/z", b"{ nonsense")
    )


def test_a_last_good_value_is_in_the_one_and_the_bad_row_in_the_other() -> None:
    good = build(listing(row("api_keys/a", KEY, 1)), empty(PREFIX), NOON)
    bad = apply(good, changes(row("api_keys/a", BAD, 2, created=1)), LATER)
    assert config_hash(bad) == config_hash(good)
    assert source_hash(bad) == sha(("/aisix/api_keys/a", BAD))


def test_floats_are_spelt_as_the_reference_spells_them() -> None:
    assert canonical(b"[1e-05,1e-6,1e16,1.50,100,-0.0]") == b"[0.00001,1e-6,1e16,1.5,100,-0.0]"


def test_keys_are_sorted_at_every_depth_and_text_stays_raw() -> None:
    assert (
        canonical('{"b":{"z":1,"a":"ü"},"a":[{"d":1,"c":2}]}'.encode())
        == '{"a":[{"c":2,"d":1}],"b":{"a":"ü","z":1}}'.encode()
    )


def test_what_is_no_json_stays_as_it_is() -> None:
    assert canonical(b"[" * 100_000) == b"[" * 100_000
