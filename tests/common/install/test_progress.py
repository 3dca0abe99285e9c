import pytest

from aisix_common.install.progress import Failed, Later

from .conftest import Told


def test_asks_again_while_there_is_time_and_tells_a_reason_once(told: Told) -> None:
    answers = iter([Later("away"), Later("away"), Later("slow", 5.0), "here"])

    def attempt() -> str:
        answer = next(answers)
        if isinstance(answer, Later):
            raise answer
        return str(answer)

    assert told.job().patiently("etcd", attempt) == "here"
    assert told.lines == ["etcd: away; trying on", "etcd: slow; trying on"]
    assert told.slept == 7.0


def test_gives_up_when_the_time_is_over(told: Told) -> None:
    def attempt() -> None:
        raise Later("away")

    with pytest.raises(Failed, match="etcd: away: gave up"):
        told.job(3.0).patiently("etcd", attempt)
    assert told.slept <= 3.0


def test_a_step_gets_what_is_left(told: Told) -> None:
    job = told.job(5.0)
    assert 4.0 < job.left(30.0) <= 5.0
    assert job.left(2.0) == 2.0
    told.slept = 10.0
    assert job.left(2.0) == 0.001
