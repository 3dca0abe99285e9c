"""The fingerprints, held against the rule written out by hand."""

import hashlib
import time
from typing import Any

import pytest
from msgspec import json

from aisix_common.resources import ALL_KINDS, BY_NAME, EXTERNAL_KINDS, Kind
from aisix_common.resources.concealed import resolved
from aisix_common.secret import SEALED, Secret
from aisix_common.secrets.envelope import NO_KEYRING, Keyring
from aisix_common.secrets.rows import context
from aisix_common.snapshot import (
    Entry,
    Overlay,
    Snapshot,
    apply,
    build,
    config_hash,
    empty,
    reopened,
    restore,
    source_hash,
)
from aisix_common.snapshot.hashes import canonical
from aisix_common.store.types import KeyValue, Listing

from .rows import BAD, LATER, NOON, PREFIX, api_key, changes, listing, row
from .sealed import BOTH, CLEAR, IMPOSTOR, NEW, OLD, provider_key, sealed_row, with_unknown
from tests.support.documents import SAMPLES

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


def test_many_rows_are_in_the_order_of_their_keys() -> None:
    rows = [api_key(f"{n * 7919 % 3001}", f"h{n}", n + 1) for n in range(3001)]
    snapshot = build(Listing(tuple(rows), 3001), empty(PREFIX), NOON)
    by_hand = [(each.key, canonical(each.value)) for each in sorted(rows, key=lambda each: each.key)]
    assert config_hash(snapshot) == source_hash(snapshot) == sha(*by_hand)


def built(*rows: KeyValue, keyring: Keyring = OLD) -> Snapshot:
    snapshot = build(listing(*rows), empty(PREFIX), NOON, keyring)
    assert not len(snapshot.rejected)
    return snapshot


VAULT = {
    "manager": "vault",
    "name": "v",
    "uri": "https://v",
    "auth": {"method": "token", "token": CLEAR},
}
VALUES = {"a": CLEAR, "b": [CLEAR, {"z": 1e-05, "c": 12345678901234567890}], "n": None, "o": "", "u": "\u00fc\n"}
DOCUMENTS = [
    *((kind, dict(sample.document)) for kind, sample in SAMPLES.items()),
    ("provider_keys", {"display_name": "k", "api_key": CLEAR, "request": {"default_body_fields": VALUES}}),
    ("secret_providers", VAULT),
]


def one(kind: str, given: dict[str, Any], keyring: Keyring) -> Snapshot:
    """A snapshot of one row, sealed and opened with `keyring`."""
    kinds = EXTERNAL_KINDS if BY_NAME[kind].external else ALL_KINDS
    rows = listing(sealed_row(kind, "r", given, 1, keyring))
    snapshot = build(rows, empty(PREFIX, kinds), NOON, keyring)
    assert snapshot.served == 1
    return snapshot


@pytest.mark.parametrize(("kind", "given"), DOCUMENTS, ids=[f"{n} {kind}" for n, (kind, _) in enumerate(DOCUMENTS)])
def test_sealed_in_whatever_way_is_as_in_clear(kind: str, given: dict[str, Any]) -> None:
    clear = one(kind, given, NO_KEYRING)
    entry = next(iter(clear.tables[kind].by_id.values()))
    assert config_hash(clear) == sha((f"{PREFIX}/{kind}/r", canonical(entry.raw))), "what the contract says"
    for keyring in (OLD, OLD, NEW):
        sealed = one(kind, given, keyring)
        assert config_hash(sealed) == source_hash(sealed) == config_hash(clear)


def test_the_samples_hold_secrets() -> None:
    raws = [next(iter(one(kind, given, OLD).tables[kind].by_id.values())).raw for kind, given in DOCUMENTS]
    assert sum(SEALED.encode() in raw for raw in raws) > 5


def test_another_secret_is_another_hash() -> None:
    def hashed(**texts: str) -> str:
        return config_hash(built(*(provider_key(id, 1, secret=text) for id, text in texts.items())))

    assert len({hashed(a="1", b="2"), hashed(a="2", b="1"), hashed(a="1", b="3"), hashed(a="1", c="2")}) == 4
    assert hashed(a="1", b="2") == hashed(b="2", a="1")


SEALED_KEY = json.decode(provider_key("k", 1).value)["api_key"]


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(f'{{"display_name":"k","secret":"{SEALED_KEY}"}}', id="under the older name"),
        pytest.param(f'{{"display_name":"k","secret":"\\u0065nc{SEALED_KEY[3:]}"}}', id="with an escape"),
    ],
)
def test_however_it_is_spelt(raw: str) -> None:
    clear = row("provider_keys/k", f'{{"secret":"{CLEAR}","display_name":"k"}}'.encode(), 1)
    assert config_hash(built(row("provider_keys/k", raw.encode(), 1))) == config_hash(built(clear))


def test_what_does_not_open_stays_as_it_is_stored() -> None:
    known = built(with_unknown("k", 1, OLD))
    assert config_hash(known, OLD) == config_hash(known, BOTH) == config_hash(built(with_unknown("k", 1, NO_KEYRING)))
    other = built(with_unknown("k", 1, NEW), keyring=BOTH)
    assert config_hash(other, BOTH) == config_hash(known, OLD), "in fields that nobody knows the keyring opens"
    closed = config_hash(known)
    assert closed != config_hash(known, OLD)
    assert closed == config_hash(known, NEW) == config_hash(known, IMPOSTOR)
    assert closed != config_hash(built(with_unknown("k", 1, OLD)))

    copied = json.encode({"display_name": SEALED_KEY, "api_key": SEALED_KEY})
    snapshot = built(row("provider_keys/k", copied, 1))
    clear = json.encode({"api_key": CLEAR, "display_name": SEALED_KEY})
    assert config_hash(snapshot, OLD) == sha((f"{PREFIX}/provider_keys/k", clear)), "it belongs to one place alone"


@pytest.mark.parametrize("raw", ['"enc:v1:old:AAAA"', "enc:v1:", '["enc:v1:old:AAAA", {"a": "enc:v1:"}]', "[" * 9999])
def test_rows_that_are_not_served_are_as_they_stand(raw: str) -> None:
    value = (raw + "\\u").encode() if raw.startswith("[[") else raw.encode()
    snapshot = build(listing(row("nothing/k", value, 1)), empty(PREFIX), NOON, OLD)
    assert source_hash(snapshot, OLD) == sha((f"{PREFIX}/nothing/k", canonical(value)))


def test_a_bad_row_is_opened_where_it_can_be() -> None:
    def hashed(keyring: Keyring) -> str:
        text = keyring.seal(CLEAR, context("provider_keys", "k", ("api_key",)))
        bad = row("provider_keys/k", json.encode({"api_key": text}), 1)
        return source_hash(build(listing(bad), empty(PREFIX), NOON, BOTH), BOTH)

    assert hashed(OLD) == hashed(NEW) == sha((f"{PREFIX}/provider_keys/k", json.encode({"api_key": CLEAR})))


def test_sealed_texts_far_down_are_not_looked_for() -> None:
    def hashed(depth: int) -> str:
        deep = "[" * depth + f'"{OLD.seal(CLEAR, context("nothing", "k", (0,) * depth))}"' + "]" * depth
        return source_hash(build(listing(row("nothing/k", deep.encode(), 1)), empty(PREFIX), NOON, OLD), OLD)

    assert hashed(60) == hashed(60)
    assert hashed(70) != hashed(70)


def test_a_key_that_is_gone_changes_no_hash_of_what_is_served() -> None:
    before = built(provider_key("k", 1))
    after = reopened(before, LATER, NEW)
    assert after.rejected
    assert config_hash(after, NEW) == config_hash(before, OLD)


def test_a_restart_from_the_cache_has_the_same_hash() -> None:
    rows = (provider_key("k", 1), provider_key("l", 2), with_unknown("m", 3, OLD))
    assert config_hash(restore(listing(*rows), (), PREFIX, NOON, OLD), OLD) == config_hash(built(*rows), OLD)


def test_references_stay_references() -> None:
    reference = "$env://AISIX_SECRET_A"
    hashes = set()
    for keyring, leads_to in ((NO_KEYRING, "sk-one"), (NO_KEYRING, "sk-two"), (OLD, "sk-one"), (NEW, "sk-two")):
        text = keyring.seal(reference, context("provider_keys", "k", ("api_key",))) if keyring else reference
        base = built(row("provider_keys/k", json.encode({"display_name": "k", "api_key": text}), 1), keyring=keyring)
        known = Secret(leads_to)

        def replace(kind: Kind[Any], entry: Entry[Any], known: Secret = known) -> Any:
            return resolved(kind, entry.value, lambda text: known)

        served = Overlay(PREFIX).apply(base, replace, {}, NOON)
        assert served.tables["provider_keys"].by_id["k"].value.api_key.reveal() == leads_to
        hashes |= {config_hash(served), config_hash(base)}
    assert hashes == {sha((f"{PREFIX}/provider_keys/k", json.encode({"api_key": reference, "display_name": "k"})))}


def test_many_sealed_rows_cost_little() -> None:
    many = 1000
    rows = tuple(provider_key(f"k{n}", n + 1) for n in range(many))
    snapshot = build(Listing(rows, many), empty(PREFIX), NOON, OLD)
    began = time.process_time()
    config_hash(snapshot)
    assert time.process_time() - began < 0.1, "50,000 in 5 s on a busy machine; half a second on an idle one"
