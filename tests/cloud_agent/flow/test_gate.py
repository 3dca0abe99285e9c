"""When a call may be made while calls fail."""

import random
from typing import cast

import pytest
import structlog

from aisix_cloud_agent.cloud.link import CloudError, CloudRefused, CloudUnavailable, Link
from aisix_cloud_agent.flow.gate import Gate, Turn
from aisix_common.logs import Logger

from tests.cloud_agent.sessions import Here


class Kit:
    def __init__(self, patience: int = 1) -> None:
        self.now = 1000.0
        self.link = Link()
        self.link.use(Here())
        self.lines = structlog.testing.LogCapture()
        log = cast("Logger", structlog.wrap_logger(None, processors=[self.lines]))
        self.gate = Gate(
            self.link,
            lambda: self.now,
            random.Random(7),
            log,
            what="tests",
            about=lambda status: status == 422,
            patience=patience,
        )

    def turn(self) -> Turn:
        turn = self.gate.turn()
        assert turn is not None
        return turn

    def call(self, turn: Turn, error: CloudError | None = None) -> type[CloudError] | None:
        """Make a call that ends so; what comes out."""
        try:
            with self.gate.calling(turn) as session:
                assert session is turn.session
                if error is not None:
                    raise error
        except CloudError as out:
            return type(out)
        return None


def test_while_calls_work_everybody_may() -> None:
    kit = Kit()
    turns = [kit.turn() for _ in range(3)]
    assert [kit.call(turn) for turn in turns] == [None] * 3
    assert kit.gate.open
    assert not kit.lines.entries


def test_calls_that_fail_together_are_one_failure_and_one_call_tries() -> None:
    kit = Kit()
    turns = [kit.turn() for _ in range(8)]
    assert {kit.call(turn, CloudUnavailable("down")) for turn in turns} == {CloudUnavailable}
    assert kit.gate.trouble == "down"
    assert kit.gate.turn() is None
    kit.now += 1.0  # one failure: a second at most
    probe = kit.turn()
    assert probe.probe
    kit.now += 100
    assert kit.gate.turn() is None, "one at a time"
    kit.call(probe)
    assert not kit.turn().probe
    assert [line["event"] for line in kit.lines.entries] == [
        "the Cloud does not take calls; trying again",
        "the Cloud takes calls again",
    ]


def test_the_pause_doubles_to_a_minute_with_jitter() -> None:
    kit = Kit()
    pauses = []
    kit.call(kit.turn(), CloudUnavailable("down"))
    for _ in range(12):
        began = kit.now
        while (turn := kit.gate.turn()) is None:
            kit.now += 0.25
        pauses.append(kit.now - began)
        kit.call(turn, CloudUnavailable("still down"))
    assert pauses[0] <= 1.0
    assert all(0.5 * min(2**n, 60) <= pause + 0.25 and pause <= min(2**n, 60) + 0.25 for n, pause in enumerate(pauses))
    assert max(pauses) > 30
    assert len(kit.lines.entries) == 1


@pytest.mark.parametrize(("asked", "waited"), [(30, 30.0), (300, 300.0), (86_400, 300.0)])
def test_a_wait_that_the_cloud_asks_for_is_respected_up_to_five_minutes(asked: int, waited: float) -> None:
    kit = Kit()
    kit.call(kit.turn(), CloudUnavailable("busy", retry_after=asked))
    kit.now += waited - 0.1
    assert kit.gate.turn() is None
    kit.now += 0.1
    assert kit.turn().probe


def test_a_refusal_of_what_was_sent_leaves_it_open_and_any_other_one_is_trouble() -> None:
    kit = Kit()
    assert kit.call(kit.turn(), CloudRefused("bad", status=422)) is CloudRefused
    assert kit.gate.open
    assert kit.call(kit.turn(), CloudRefused("who are you", status=401)) is CloudUnavailable
    assert kit.gate.trouble == "who are you"


def test_a_new_certificate_is_tried_at_once() -> None:
    kit = Kit()
    kit.call(kit.turn(), CloudRefused("who are you", status=401))
    assert kit.gate.turn() is None
    kit.link.use(Here())
    assert kit.turn().probe


def test_without_a_certificate_nobody_calls() -> None:
    kit = Kit()
    kit.link.use(None)
    assert kit.gate.turn() is None
    assert kit.gate.besides() is None
    assert kit.gate.open


def test_a_success_from_before_the_trouble_says_nothing_of_after_it() -> None:
    kit = Kit()
    early, failing = kit.turn(), kit.turn()
    kit.call(failing, CloudUnavailable("down"))
    kit.call(early)
    assert not kit.gate.open


def test_a_call_besides_the_pause_opens_it_when_it_works() -> None:
    kit = Kit()
    kit.call(kit.turn(), CloudUnavailable("down"))
    besides = kit.gate.besides()
    assert besides is not None
    kit.call(besides)
    assert kit.gate.open


def test_with_patience_some_failures_are_nobodys_pause() -> None:
    kit = Kit(patience=3)
    for outcome in (CloudUnavailable("1"), CloudUnavailable("2"), None, CloudUnavailable("3"), CloudUnavailable("4")):
        kit.call(kit.turn(), outcome)
        assert kit.gate.open
    kit.call(kit.turn(), CloudUnavailable("5"))
    assert not kit.gate.open
    kit = Kit(patience=3)
    kit.call(kit.turn(), CloudUnavailable("busy", retry_after=60))
    assert not kit.gate.open, "it was asked for"


def test_a_probe_that_is_cancelled_leaves_the_next_one_its_turn() -> None:
    kit = Kit()
    kit.call(kit.turn(), CloudUnavailable("down"))
    kit.now += 60
    with pytest.raises(KeyboardInterrupt), kit.gate.calling(kit.turn()):
        raise KeyboardInterrupt
    assert kit.turn().probe
