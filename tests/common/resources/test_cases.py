"""Every kind against its table: the lenient read, the strict check, and what they say."""

from typing import Any

import pytest
from msgspec import json

from aisix_common.resources import ALL_KINDS, Kind, Loaded, Refused, Rejected, check, document, masked, read
from aisix_common.secret import MASK

from .cases import FOLDER, Case, load

ALL = [pytest.param(kind, case, id=f"{kind.name}: {case.name}") for kind in ALL_KINDS for case in load(kind.name)]
CANARY = "sk-canary"


def test_every_kind_has_a_table() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {kind.name for kind in ALL_KINDS}


@pytest.mark.parametrize(("kind", "case"), ALL)
def test_case(kind: Kind[Any], case: Case) -> None:
    """One test a case: there are a thousand of them."""
    lenient_read(kind, case)
    strict_check(kind, case)
    nothing_shows_a_secret(kind, case)


def lenient_read(kind: Kind[Any], case: Case) -> None:
    outcome = read(kind, json.encode(case.document))
    if case.lenient == "ok":
        assert isinstance(outcome, Loaded), outcome
        assert outcome.unknown == case.unknown
    else:
        assert isinstance(outcome, Rejected)
        assert outcome.failure == case.lenient
        assert f"`{case.at}`" in outcome.message
        assert CANARY not in outcome.message
        assert CANARY not in repr(outcome)


def strict_check(kind: Kind[Any], case: Case) -> None:
    if case.strict == "ok":
        value = check(kind, case.document)
        again = read(kind, json.encode(document(kind, value)))
        assert isinstance(again, Loaded)
        assert again == Loaded(value), "what is stored reads back as it was meant"
    else:
        with pytest.raises(Refused) as refused:
            check(kind, case.document)
        if case.at is not None:
            assert case.at in {flaw.pointer for flaw in refused.value.flaws}
        assert CANARY not in str(refused.value) + repr(refused.value.problems)


def nothing_shows_a_secret(kind: Kind[Any], case: Case) -> None:
    outcome = read(kind, json.encode(case.document))
    if isinstance(outcome, Loaded):
        assert CANARY not in repr(outcome.value)
        shown = json.encode(masked(kind, outcome.value)).decode()
        assert CANARY not in shown
        clear = json.encode(document(kind, outcome.value)).decode()
        assert (MASK in shown) == (clear != shown)
        assert (CANARY in clear) == (MASK in shown) or kind.name == "provider_keys"


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff", b'{"a":NaN}', b'{"a":1e999}', b"\xef\xbb\xbf{}", b"[" * 100_000, b'{"a":' * 100_000, b"{}x"],
)
def test_what_is_no_json(kind: Kind[Any], raw: bytes) -> None:
    outcome = read(kind, raw)
    assert isinstance(outcome, Rejected)
    assert outcome.failure == "non_json"
