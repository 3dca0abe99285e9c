"""One transaction, or chunks between markers."""

from itertools import pairwise

import pytest

from aisix_cloud_agent.projection.markers import Fence
from aisix_cloud_agent.projection.steps import MOST_BYTES, Sealable, Step, fits, in_steps, operation_size
from aisix_common.managed.projected import Marker
from aisix_common.store.types import Delete, Put, unchanged

DONE = Marker("e", 42, "done")
BEFORE = Marker("e", 41, "done")
APPLYING = Marker("e", 41, "applying", 42)


def puts(count: int, value: bytes = b"{}", sealed: bool = False) -> list[Sealable]:
    return [(Put(f"/aisix/models/{n}", value), sealed) for n in range(count)]


def flat(steps: list[Step]) -> list[Put | Delete]:
    return [operation for step in steps for operation in step.operations]


@pytest.mark.parametrize("count", [1, 99])
def test_what_fits_is_one_transaction(count: int) -> None:
    (step,) = in_steps(puts(count), BEFORE, DONE)
    assert step.marker == DONE
    assert len(step.operations) == count


@pytest.mark.parametrize(("count", "chunks"), [(100, 2), (198, 2), (199, 3), (1000, 11)])
def test_what_does_not_stands_between_markers(count: int, chunks: int) -> None:
    operations = puts(count)
    steps = list(in_steps(operations, BEFORE, DONE))
    assert [step.marker for step in steps] == [APPLYING] * (chunks + 1) + [DONE]
    assert steps[0].operations == steps[-1].operations == ()
    assert flat(steps) == [operation for operation, _ in operations]
    assert max(len(step.operations) for step in steps) <= 99


def test_bytes_are_limited_too() -> None:
    value = b"x" * 300_000
    steps = list(in_steps(puts(7, value), BEFORE, DONE))
    assert [len(step.operations) for step in steps] == [0, 3, 3, 1, 0]


def test_a_row_as_large_as_a_transaction_stands_alone() -> None:
    key = "/aisix/models/0"
    most = MOST_BYTES - 1024 - operation_size(key)
    assert fits(key, most)
    assert not fits(key, most + 1)
    steps = list(in_steps([(Put(key, b"x" * most), False), *puts(2)], BEFORE, DONE))
    assert [len(step.operations) for step in steps] == [0, 1, 2, 0]


def test_nothing_to_do() -> None:
    assert list(in_steps((), DONE, DONE)) == []
    assert list(in_steps((), BEFORE, DONE)) == [Step(DONE)]
    assert list(in_steps((), APPLYING, DONE)) == [Step(DONE)]
    assert list(in_steps((), None, DONE)) == [Step(DONE)]


def test_the_first_projection_has_no_revision_before_it() -> None:
    first = next(in_steps(puts(100), None, DONE))
    assert first.marker == Marker("e", 0, "applying", 42)


def test_what_is_going_on_already_is_not_announced_again() -> None:
    steps = list(in_steps(puts(100), APPLYING, DONE))
    assert [len(step.operations) for step in steps] == [99, 1, 0]


def test_they_are_made_when_they_are_asked_for() -> None:
    taken: list[int] = []

    def operations() -> object:
        for n, each in enumerate(puts(10_000)):
            taken.append(n)
            yield each

    steps = in_steps(operations(), BEFORE, DONE)  # type: ignore[arg-type]
    next(steps)
    next(steps)
    assert len(taken) < 300


def test_a_transaction_carries_the_marker_and_the_fence() -> None:
    sealed = [*puts(1, sealed=True), *puts(0)]
    (step,) = in_steps([*sealed, (Delete("/aisix/models/x"), False)], BEFORE, DONE)
    compare, operations = step.transaction(Fence(3, 5, 8), DONE, "/run/aisix")
    assert compare == [
        unchanged("/run/aisix/agent/epoch", 3),
        unchanged("/run/aisix/projection", 5),
        unchanged("/run/aisix/keyring", 8),
    ]
    assert operations == [
        Put("/aisix/models/0", b"{}"),
        Delete("/aisix/models/x"),
        Put("/run/aisix/projection", b'{"env_id":"e","cloud_revision":42,"state":"done"}'),
    ]
    (plain,) = in_steps(puts(1), BEFORE, DONE)
    assert len(plain.transaction(Fence(3, 5, 8), DONE, "/run/aisix")[0]) == 2


def test_only_the_chunks_that_seal_depend_on_the_keyring() -> None:
    steps = list(in_steps([*puts(99, sealed=True), *puts(99)], BEFORE, DONE))
    assert [step.sealed for step in steps] == [False, True, False, False]
    assert all(a.marker == APPLYING for a, _ in pairwise(steps))
