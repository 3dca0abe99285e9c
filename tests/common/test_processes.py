"""Children end with their parent, whatever ends it; their ends are told as shells tell them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aisix_common.processes import LIFELINE, ORPHANED, Child, Command, hold_lifeline

from tests.support.child_modules import WAITING, Programs, alive, eventually


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


def test_exit_code_is_told(programs: Programs) -> None:
    child = Child(Command("x", programs.write("quick", "sys.exit(7)")), programs.environ)
    assert child.wait(20) == 7
    assert not child.running()
    assert child.exit_code == 7
    child.cut()


def test_death_by_a_signal_reads_128_and_the_signal(programs: Programs) -> None:
    child = Child(Command("x", programs.write("killed", "os.kill(os.getpid(), signal.SIGKILL)")), programs.environ)
    assert child.wait(20) == 128 + signal.SIGKILL
    child.cut()


def test_signals_and_arguments_arrive(programs: Programs) -> None:
    programs.write("echo", "note('arguments ' + ' '.join(sys.argv[1:])); NAME, CODE = 'echo', 4\n" + WAITING)
    child = Child(Command("x", "echo", ("--config", "a b")), programs.environ)
    programs.pid("echo")
    assert child.running()
    with pytest.raises(TimeoutError):
        child.wait(0.01)
    child.send(signal.SIGTERM)
    assert child.wait(20) == 4
    assert programs.events()[0] == "arguments --config a b"
    assert programs.events()[-1] == "echo got SIGTERM"
    child.send(signal.SIGTERM)  # to nobody: no error
    child.cut()


def test_a_hangup_waits_until_the_child_can_hear_it(programs: Programs) -> None:
    programs.write(
        "hears",
        """
from aisix_common.processes import hear_hangups
note("begins")
while not os.path.exists(os.path.join(folder, "sent")):
    time.sleep(0.01)
signal.signal(signal.SIGHUP, lambda number, frame: note("hears"))
hear_hangups()
sys.exit(4)
""",
    )
    child = Child(Command("x", "hears"), programs.environ)
    eventually(lambda: programs.events() == ["begins"])
    child.send(signal.SIGHUP)
    (programs.folder / "sent").touch()
    assert child.wait(20) == 4
    assert programs.events() == ["begins", "hears"]
    assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    child.cut()


def test_cut_ends_a_child_and_its_children(programs: Programs) -> None:
    programs.waiting("leaf")
    programs.write("middle", "Child(Command('leaf', 'leaf'), os.environ)\nNAME, CODE = 'middle', 0\n" + WAITING)
    child = Child(Command("x", "middle"), programs.environ)
    leaf = programs.pid("leaf")
    child.cut()
    assert child.wait(20) == 128 + signal.SIGKILL
    eventually(lambda: not alive(leaf))
    child.cut()  # a second time: nothing


def test_three_levels_end_when_the_first_is_killed(programs: Programs) -> None:
    programs.waiting("leaf")
    programs.write("middle", "Child(Command('leaf', 'leaf'), os.environ)\nNAME, CODE = 'middle', 0\n" + WAITING)
    programs.write("top", "Child(Command('middle', 'middle'), os.environ)\nNAME, CODE = 'top', 0\n" + WAITING)
    top = subprocess.Popen([sys.executable, "-m", "top"], env=programs.environ)
    pids = [programs.pid(name) for name in ("top", "middle", "leaf")]
    assert pids[0] == top.pid
    assert all(map(alive, pids))
    top.kill()
    top.wait(10)
    eventually(lambda: not any(map(alive, pids)))
    assert not any("got" in line for line in programs.events()), "nobody was asked"


def test_an_orphan_ends_with_its_own_exit_code(programs: Programs) -> None:
    read_end, write_end = os.pipe()
    programs.waiting("orphan")
    process = subprocess.Popen(
        [sys.executable, "-m", "orphan"], env={**programs.environ, LIFELINE: str(read_end)}, pass_fds=[read_end]
    )
    os.close(read_end)
    programs.pid("orphan")
    os.close(write_end)
    assert process.wait(10) == ORPHANED


def test_children_do_not_hear_the_terminals_group(programs: Programs) -> None:
    child = Child(Command("x", programs.waiting("grouped")), programs.environ)
    programs.pid("grouped")
    assert os.getpgid(child.pid) == child.pid
    child.cut()
    child.wait(10)


@pytest.mark.parametrize("text", ["", "x", "-1", "999999", "99999999999999999999", "²"])
def test_a_stale_lifeline_is_ignored(text: str) -> None:
    environ = {LIFELINE: text, "OTHER": "1"}
    assert not hold_lifeline(environ)
    assert environ == {"OTHER": "1"}, "children must not see it either"


def test_a_lifeline_that_is_no_pipe_is_ignored(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        assert not hold_lifeline({LIFELINE: str(file.fileno())})


def test_no_lifeline_at_all() -> None:
    assert not hold_lifeline({})


def test_a_start_that_fails_leaves_no_descriptors(programs: Programs) -> None:
    before = set(os.listdir("/dev/fd"))
    with pytest.raises(ValueError, match="null"):
        Child(Command("x", "y", ("\0",)), programs.environ)
    assert set(os.listdir("/dev/fd")) == before
