"""The derived schemas and the strict check hold the same documents to be right: by table, and by mutation."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisix_admin.masks import restore
from aisix_admin.schemas import MOST_FLAWS, MOST_WRONG, Tagged, flaws, schema_class
from aisix_common.resources import ALL_KINDS, GUARDRAILS, RATE_LIMIT_POLICIES, Kind, Refused, check
from aisix_common.resources.reading import one_spelling
from aisix_common.resources.walker import walk

CASES = Path(__file__).parents[1] / "common" / "resources" / "cases"


class Case(msgspec.Struct, frozen=True):
    """The part of a row of the table (tests/common/resources/cases.py) that counts here."""

    name: str
    document: Any
    strict: str = "ok"


def load(kind: str) -> list[Case]:
    return msgspec.json.decode((CASES / f"{kind}.json").read_bytes(), type=list[Case])


ALL = [pytest.param(kind, case, id=f"{kind.name}: {case.name}") for kind in ALL_KINDS for case in load(kind.name)]
CANARY = "sk-canary"


def sound_fields(kind: Kind[Any], document: dict[str, Any]) -> bool:
    """Whether the strict check has nothing against the fields, rules between them left aside."""
    renamed, twice = one_spelling(kind, document)
    return twice is None and not walk(kind.struct, renamed, strict=True, nulls=kind.nulls).flaws


@pytest.mark.parametrize(("kind", "case"), ALL)
def test_the_table(kind: Kind[Any], case: Case) -> None:
    if not isinstance(case.document, dict):
        return  # the body parser takes objects only
    found = flaws(kind, case.document)
    assert (not found) == sound_fields(kind, case.document), found
    if case.strict == "ok":
        assert not found
    assert CANARY not in repr(found)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from(
        ["", "x", "***", "failover", "direct", "5m", "2030-01-31T12:00:00Z", "2030-01-31T12:00:00", "pii", "datadog"]
    )
    | st.sampled_from(
        [0, 1, -1, 5, 99, 100, 599, 600, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64, -(2**31) - 1, 10**310]
    )
    | st.sampled_from([0.0, 1.0, 0.5, -0.5, 1.5, 1e300])
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["x", "enabled", "target", "kind"]), inner)
    ),
    max_leaves=3,
)


def places(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [at, *(place for key, item in inner for place in places(item, (*at, key)))]


def changed(document: Any, at: tuple[Any, ...], change: Any) -> Any:
    if not at:
        return change(document)
    if isinstance(document, dict):
        return {key: changed(item, at[1:], change) if key == at[0] else item for key, item in document.items()}
    return [changed(item, at[1:], change) if place == at[0] else item for place, item in enumerate(document)]


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_mutations(kind: Kind[Any], data: st.DataObject) -> None:
    document = data.draw(
        st.sampled_from([case.document for case in load(kind.name) if isinstance(case.document, dict)])
    )
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.sampled_from(places(document)))
        value = data.draw(JSON)
        how = data.draw(st.sampled_from(["replace", "add", "drop"]))
        if how == "drop" and at:
            document = changed(document, at[:-1], lambda old, at=at: without(old, at[-1]))
        elif how == "add":
            document = changed(
                document, at, lambda old, value=value: {**old, "x": value} if isinstance(old, dict) else old
            )
        elif at:
            document = changed(document, at, lambda _, value=value: value)
    found = flaws(kind, document)
    assert (not found) == sound_fields(kind, document), found
    try:
        check(kind, document)
    except Refused:
        return
    assert not found, "what a writer may store passes the schema"


def without(container: Any, part: Any) -> Any:
    if isinstance(container, dict):
        return {key: item for key, item in container.items() if key != part}
    return [item for place, item in enumerate(container) if place != part]


def test_names_are_one_for_each_kind() -> None:
    """Structs that two kinds share differ in what they think of null, and must not be one schema."""
    names = [schema_class(kind).__name__ for kind in ALL_KINDS]
    assert names == [kind.type_name for kind in ALL_KINDS]
    assert len(set(names)) == len(names)
    nested = {
        type(field.schema).__name__
        for kind in ALL_KINDS
        for name, field in schema_class(kind)().fields.items()
        if name in ("rate_limit", "limits") and hasattr(field, "schema")
    }
    assert nested == {"ModelRateLimit", "ApiKeyRateLimit", "RateLimitPolicyRateLimit"}


def test_branches_are_named_and_told_apart() -> None:
    guardrail = schema_class(GUARDRAILS)
    assert issubclass(guardrail, Tagged)
    assert list(guardrail.branches)[:2] == ["keyword", "bedrock"]
    assert [branch.__name__ for branch in guardrail.branches.values()][:2] == ["GuardrailKeyword", "GuardrailBedrock"]
    assert {flaw.pointer for flaw in flaws(GUARDRAILS, {})} == {"/kind"}
    assert {flaw.pointer for flaw in flaws(GUARDRAILS, {"kind": "pii", "x": 1})} == {"/name", "/x"}


@pytest.mark.parametrize("depth", [3, 40, 300, 900])
def test_depth_without_end_is_no_fault_of_ours(depth: int) -> None:
    node: dict[str, Any] = {"logic": "and"}
    for _ in range(depth):
        node = {"logic": "and", "children": [node]}
    document = {"name": "p", "limits": {"rpm": 1}, "conditions": [node]}
    found = flaws(RATE_LIMIT_POLICIES, restore(RATE_LIMIT_POLICIES, document, None).document)
    assert len(found) <= 1


@pytest.mark.parametrize(
    ("document", "most", "first"),
    [
        ({"name": "g", "kind": "keyword", "patterns": [{}] * 10_000}, 2 * MOST_WRONG, "/patterns/0/kind"),
        (
            {"name": "g", "kind": "openai_moderation", "api_key": "k"}
            | {"category_thresholds": {f"c{place}": "x" for place in range(10_000)}},
            MOST_WRONG,
            "/category_thresholds/c0",
        ),
        ({"name": "g", "kind": "pii"} | {f"x{place}": 1 for place in range(10_000)}, MOST_FLAWS, None),
    ],
)
def test_mistakes_without_end_are_told_in_part(document: dict[str, Any], most: int, first: str | None) -> None:
    found = flaws(GUARDRAILS, document)
    assert len(found) == most
    assert first in (None, found[0].pointer)
