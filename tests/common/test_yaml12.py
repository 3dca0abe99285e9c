"""YAML 1.2 core schema: a table of what scalars mean, what is refused, and no other exception for any text."""

import math
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from aisix_common.errors import ConfigurationError
from aisix_common.yaml12 import load

SCALARS: list[tuple[str, Any]] = [
    *((text, None) for text in ("~", "null", "Null", "NULL", "")),
    *((text, True) for text in ("true", "True", "TRUE")),
    *((text, False) for text in ("false", "False", "FALSE")),
    *((text, text) for text in ("yes", "no", "on", "off", "y", "n", "Yes", "NO", "tRUE", "nULL")),
    *((text, text) for text in ("22:00", "1:2:3", "2024-01-01", "2024-01-01T00:00:00Z", "1_000", "0b11", "1.2.3", "=")),
    ("0", 0),
    ("012", 12),
    ("-7", -7),
    ("+7", 7),
    ("0o17", 15),
    ("0x1F", 31),
    ("1.5", 1.5),
    ("1.", 1.0),
    (".5", 0.5),
    ("1e3", 1000.0),
    ("-1E-2", -0.01),
    (".inf", math.inf),
    ("-.INF", -math.inf),
    ('"yes"', "yes"),
    ("'12'", "12"),
    ('"true"', "true"),
    ("!!str 12", "12"),
    ("!!int 12", 12),
    ("!!int '12'", 12),
    ("!!float 3", 3.0),
    ("!!bool true", True),
    ("!!null ~", None),
    ("&a 12", 12),
    ('"\\u00e9\\t"', "é\t"),
    ("|\n  a\n  b\n", "a\nb\n"),
    ("[a, 1, [b]]", ["a", 1, ["b"]]),
    ("{a: {b: 1}, 'c': no}", {"a": {"b": 1}, "c": "no"}),
    ("!!map {a: 1}", {"a": 1}),
    ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
    ("'<<': 1", {"<<": 1}),
    ("'1': x\n\"true\": y", {"1": "x", "true": "y"}),
    ("# only a comment", None),
    ("\ufeffa: 1", {"a": 1}),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_meaning(text: str, value: Any) -> None:
    found = load(text)
    assert found == value
    assert type(found) is type(value)


def test_not_a_number() -> None:
    assert math.isnan(load(".nan"))


REFUSED = [
    ("a: 1\na: 2", "line 2", "key 'a' is there twice"),
    ("a: {b: 1, b: 2}", "line 1", "twice"),
    ("1: x", "line 1", "quotes"),
    ("true: x", "line 1", "quotes"),
    ("~: x", "line 1", "quotes"),
    ("!!int '1': x", "line 1", "quotes"),
    ("[a]: x", "line 1", "must be text"),
    ("a:\n  <<: {b: 1}", "line 2", "merge"),
    ("a: !env X", "line 1", "tag"),
    ("a: !!set {x}", "line 1", "tag"),
    ("a: !!python/object:os.system {}", "line 1", "tag"),
    ("a: !!int x", "line 1", "tag"),
    ("a: !!timestamp 2024-01-01", "line 1", "tag"),
    ("a: *Secr3t", "line 1", "undefined alias"),
    ("a: !x!y z", "line 1", "tag"),
    ("a: b\n---\nc: d", "line 2", "another document"),
    ("&a [*a]", "line 1", "deep"),
    ("[" * 100 + "]" * 100, "line 1", "deep"),
    ("[" * 20_000, "", "deep"),
    ("a: [1", "line 1", "expected"),
    ("a:\n\t- b", "line 2", "cannot start"),
    ("\x01", "", "character"),
    ('"\\ud800"', "line 1", "surrogate"),
    ('{"\\ud800": 1}', "line 1", "surrogate"),
    ('"\\UFFFFFFFF"', "", "valid"),
]


@pytest.mark.parametrize(("text", "where", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_refusal(text: str, where: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    (problem,) = caught.value.problems
    assert problem.path.startswith(where)
    assert reason in problem.reason


@pytest.mark.parametrize(
    "text", ["k: *Secr3t", "k: !Secr3t!x y", "k: !Secr3t y", "k: &Secr3t a\nl: &Secr3t b\n[", "k: %Secr3t"]
)
def test_no_text_of_the_document_is_quoted(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    assert "Secr3t" not in str(caught.value)


def test_aliases_cannot_blow_up() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ConfigurationError, match="too large"):
        load("\n".join(lines), most_nodes=10_000)


def test_the_caller_may_decide_what_plain_scalars_mean() -> None:
    assert load("a: 012\nb: '012'\nc:", lambda text: ("plain", text)) == {
        "a": ("plain", "012"),
        "b": "012",
        "c": ("plain", ""),
    }


_PIECES = st.sampled_from(
    [
        *("a", ": ", "\n", "  ", "- ", "[", "]", "{", "}", ",", "*x", "&x ", "!", "!!int ", "|", ">", "'", '"', "\\x"),
        *("%YAML 1.2\n", "---", "...", "?", "#", "<<", "~", "1", "\t", "\ud800", "é"),
    ]
)


@given(st.one_of(st.text(), st.lists(_PIECES, max_size=30).map("".join)))
@settings(deadline=None)
def test_any_text_gives_a_value_or_our_error(text: str) -> None:
    try:
        load(text)
    except ConfigurationError:
        pass


def meaning(text: str) -> Any:
    try:
        return repr(load(text))  # NaN is no equal of itself
    except ConfigurationError:
        return None


@given(st.one_of(st.text(), st.lists(_PIECES, max_size=30).map("".join)))
@settings(deadline=None)
@example("!")
def test_both_readers_agree(text: str) -> None:
    assume(not text.startswith("\ufeff"))  # only at the very beginning it is a byte order mark
    assert meaning(text) == meaning(f"#\t\n{text}"), "a tab anywhere has the slower one read it"


@pytest.mark.parametrize("text", ["[" * 200_000, "- " * 200_000, "{a: " * 200_000])
def test_no_depth_ends_the_process(text: str) -> None:
    assert meaning(text) is None
