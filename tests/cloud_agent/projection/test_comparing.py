"""What counts as unchanged."""

from typing import Any

import pytest
from msgspec import json

from aisix_cloud_agent.projection.comparing import opened, same
from aisix_cloud_agent.projection.layout import Spot
from aisix_cloud_agent.projection.sealing import readable, sealed
from aisix_common.secrets.envelope import NO_KEYRING, Keyring

from tests.cloud_agent.local_etcd import KEYRING
from tests.support.documents import SET

NEWER = Keyring([("k2", b"2" * 32), ("k1", b"1" * 32)])
OTHER = Keyring([("k3", b"3" * 32)])
IMPOSTOR = Keyring([("k1", b"x" * 32)])


def spot(kind: str, id: str = "x") -> Spot:
    return Spot(f"/aisix/{kind}/{id}", kind, id)


def stored(kind: str, document: Any, keyring: Keyring = KEYRING, id: str = "x") -> bytes:
    """A row as it was projected."""
    raw = json.encode(document)
    return sealed(kind, id, raw, readable(kind, raw), keyring)


@pytest.mark.parametrize("sample", SET, ids=lambda sample: sample.kind)
def test_every_kind_is_the_same_as_what_was_projected_of_it_and_not_as_a_changed_one(sample: Any) -> None:
    at, wanted = spot(sample.kind), json.encode(sample.document)
    assert same(at, wanted, stored(sample.kind, sample.document), KEYRING)
    assert not same(
        at, json.encode({**sample.document, **sample.changed}), stored(sample.kind, sample.document), KEYRING
    )


DOCUMENT = {"display_name": "k", "api_key": "c1", "rotation": {"token": "c2"}}
RAW = json.encode(DOCUMENT)


@pytest.mark.parametrize("kind", ["provider_keys", "future_kind"])
def test_order_white_space_and_nonces_are_no_change(kind: str) -> None:
    spelled = b'{ "rotation":{"token": "c2"}, "api_key":"\\u00631" , "display_name":"k" }'
    assert stored(kind, DOCUMENT) != stored(kind, DOCUMENT)
    assert same(spot(kind), spelled, stored(kind, DOCUMENT), KEYRING)


def test_an_older_spelling_is_the_same_as_what_was_projected_of_it() -> None:
    document = {"display_name": "k", "secret": "c1"}
    assert same(spot("provider_keys"), json.encode(document), stored("provider_keys", document), KEYRING)
    assert not same(
        spot("provider_keys"), json.encode({**document, "secret": "c2"}), stored("provider_keys", document), KEYRING
    )


CHANGED = [
    {**DOCUMENT, "api_key": "c3"},
    {**DOCUMENT, "api_key": '"c1"'},
    {**DOCUMENT, "rotation": {"token": "c3"}},
    {**DOCUMENT, "rotation": {"token": "c2", "future": None}},
    {**DOCUMENT, "api_key": "$env://AISIX_SECRET_A"},
    {**DOCUMENT, "api_key": ["c1"]},
]


@pytest.mark.parametrize("kind", ["provider_keys", "future_kind"])
@pytest.mark.parametrize("document", CHANGED)
def test_changes(kind: str, document: Any) -> None:
    assert not same(spot(kind), json.encode(document), stored(kind, DOCUMENT), KEYRING)
    assert not same(spot(kind), RAW, stored(kind, document), KEYRING)


def test_a_text_and_the_same_text_in_quotes_are_two_where_values_are_json_too() -> None:
    def fields(value: Any) -> Any:
        return {"display_name": "k", "api_key": "c", "request": {"default_body_fields": {"a": value}}}

    for one, other in [("t", '"t"'), (1, "1"), ({"a": 1}, '{"a":1}'), (None, "null")]:
        assert same(spot("provider_keys"), json.encode(fields(one)), stored("provider_keys", fields(one)), KEYRING)
        assert not same(
            spot("provider_keys"), json.encode(fields(one)), stored("provider_keys", fields(other)), KEYRING
        )


def test_the_key_of_the_keyring_makes_no_difference() -> None:
    assert same(spot("provider_keys"), RAW, stored("provider_keys", DOCUMENT), NEWER)


@pytest.mark.parametrize("keyring", [OTHER, IMPOSTOR, NO_KEYRING])
def test_what_does_not_open_counts_as_changed(keyring: Keyring) -> None:
    assert not same(spot("provider_keys"), RAW, stored("provider_keys", DOCUMENT), keyring)


def test_what_was_sealed_for_another_place_counts_as_changed() -> None:
    assert not same(spot("provider_keys", "y"), RAW, stored("provider_keys", DOCUMENT), KEYRING)


def test_what_the_cloud_has_sealed_with_a_key_of_its_own_is_not_written_again() -> None:
    row = stored("provider_keys", DOCUMENT, OTHER)
    assert same(spot("provider_keys"), row, row, KEYRING)
    assert not same(spot("provider_keys"), row, stored("provider_keys", DOCUMENT, OTHER), KEYRING)


def test_a_cloud_that_seals_with_our_key_is_compared_by_what_it_says() -> None:
    assert same(spot("provider_keys"), stored("provider_keys", DOCUMENT), stored("provider_keys", DOCUMENT), KEYRING)


@pytest.mark.parametrize("kind", ["provider_keys", "future_kind"])
def test_a_secret_that_lies_in_clear_counts_as_changed_where_there_is_a_keyring(kind: str) -> None:
    assert not same(spot(kind), RAW, RAW, KEYRING)
    assert same(spot(kind), RAW, RAW, NO_KEYRING)


@pytest.mark.parametrize("raw", [b"", b"garbage", b"\xff", b'{"key_hash":'])
def test_garbage_is_compared_by_its_bytes(raw: bytes) -> None:
    assert same(spot("api_keys"), raw, raw, KEYRING)
    assert not same(spot("api_keys"), raw, raw + b" ", KEYRING)


def test_sealed_texts_in_garbage_are_left_alone() -> None:
    raw = b'{"api_key":"enc:v1:k1:AAAA"'
    assert opened(spot("provider_keys"), raw, KEYRING) == raw


def test_a_plain_text_that_looks_sealed_is_no_change() -> None:
    raw = json.encode({"key_hash": "h", "display_name": "enc:v1:k1:AAAA"})
    assert same(spot("api_keys"), raw, b" " + raw, KEYRING)
