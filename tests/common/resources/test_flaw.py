"""How a flaw is told: as a pointer, as a path, as a sentence."""

from aisix_common.errors import Problem
from aisix_common.resources import Flaw, Refused


def test_places() -> None:
    flaw = Flaw(("routing", "targets", 0, "a/b~c"), "why")
    assert flaw.pointer == "/routing/targets/0/a~1b~0c"
    assert flaw.problem == Problem("routing.targets[0].a/b~c", "why")
    assert Flaw((), "why").pointer == "/"
    assert Flaw((), "why").problem == Problem("", "why")


def test_sentences() -> None:
    assert Flaw(("a",), "why").text("Model") == "schema validation failed at `/a`: why"
    assert Flaw(("a",), "why", "parse").text("Model") == "malformed Model payload: at `/a`: why"


def test_long_names_are_shortened() -> None:
    flaw = Flaw(("n" * 10_000,), "why")
    assert len(flaw.pointer) < 200
    assert len(flaw.problem.path) < 200


def test_the_first_flaw_speaks_for_all() -> None:
    error = Refused("Model", [Flaw(("a",), "one"), Flaw(("b",), "two")])
    assert str(error) == "schema validation failed at `/a`: one"
    assert [problem.path for problem in error.problems] == ["a", "b"]
