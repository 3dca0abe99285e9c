"""ETags and conditions (RFC 9110, 8.8.3 and 13.1)."""

import pytest

from aisix_admin.errors import Invalid, PreconditionFailed
from aisix_admin.preconditions import Conditions, etag


def met(if_match: str | None, if_none_match: str | None, revision: int | None) -> bool:
    try:
        Conditions.read(if_match, if_none_match).require(revision)
    except PreconditionFailed:
        return False
    return True


def test_the_tag_of_a_revision_meets_itself() -> None:
    assert etag(42) == '"42"'
    assert met(etag(42), None, 42)
    assert not met(None, etag(42), 42)
    assert Conditions.read(None, etag(42)).unmodified(42)


@pytest.mark.parametrize(
    ("header", "at_42", "at_nothing"),
    [
        (None, True, True),
        ("*", True, False),
        (" * ", True, False),
        ('"42"', True, False),
        ('"41"', False, False),
        ('"41", "42"', True, False),
        ('"41","42" , "43"', True, False),
        ('"41",, "42",', True, False),
        (', "42"', True, False),
        ('W/"42"', False, False),
        ('W/"42", "42"', True, False),
        ('""', False, False),
        ('"*"', False, False),
        ('"a,b", "42"', True, False),
        ('"a,\\", "42"', True, False),
        ('"\u00e9"', False, False),
        ('"042"', False, False),
    ],
)
def test_if_match(header: str | None, at_42: bool, at_nothing: bool) -> None:
    assert met(header, None, 42) is at_42
    assert met(header, None, None) is at_nothing


@pytest.mark.parametrize(
    ("header", "at_42"),
    [(None, True), ("*", False), ('"42"', False), ('W/"42"', False), ('"41"', True), ('"41", W/"42"', False)],
)
def test_if_none_match(header: str | None, at_42: bool) -> None:
    assert met(None, header, 42) is at_42
    assert met(None, header, None), "what is not there matches nothing"
    assert Conditions.read(None, header).unmodified(42) is not at_42


def test_a_failure_knows_what_is_there() -> None:
    for revision in (None, 42):
        with pytest.raises(PreconditionFailed) as failed:
            Conditions.read('"1"', None).require(revision)
        assert failed.value.revision == revision


def test_both_must_hold() -> None:
    assert met('"42"', '"41"', 42)
    assert not met('"42"', '"42"', 42)
    assert not met("*", "*", 42)


@pytest.mark.parametrize(
    "header", ["", " ", ",", "42", "*, *", '*, "42"', '"42" "43"', '"42', 'w/"42"', 'W/ "42"', '"4 2"', '"42"x', "W/42"]
)
def test_what_is_no_condition_is_refused(header: str) -> None:
    with pytest.raises(Invalid, match=r"^If-Match must be "):
        Conditions.read(header, None)
    with pytest.raises(Invalid, match=r"^If-None-Match must be "):
        Conditions.read(None, header)


def test_a_long_header_costs_no_more_than_its_length() -> None:
    for header in ('"a",' * 20_000 + "x", " ," * 20_000 + "x", '"a"' + " " * 20_000 + "x"):
        with pytest.raises(Invalid):
            Conditions.read(header, None)
