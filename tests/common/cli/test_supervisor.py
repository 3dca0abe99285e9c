"""The supervisor with real children: how it stops, and how it ends when a child does."""

import json
import os
import signal
import time

import pytest

from tests.common.cli.conftest import Gateway
from tests.support.child_modules import alive, eventually
from tests.support.full_pipe import full_pipe


def _both_wait(gateway: Gateway, proxy_code: int = 0, admin_code: int = 0) -> tuple[int, int]:
    gateway.programs.waiting("fake_proxy", proxy_code)
    gateway.programs.waiting("fake_admin", admin_code)
    gateway.start()
    return gateway.programs.pid("fake_proxy"), gateway.programs.pid("fake_admin")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_at_once(gateway: Gateway, number: signal.Signals) -> None:
    _both_wait(gateway)
    begin = time.monotonic()
    gateway.send(number)
    code, shown = gateway.end()
    assert code == 0
    assert time.monotonic() - begin < 5, "nothing was waited for; far less on a machine that is not busy"
    assert sorted(line for line in gateway.programs.events() if "got" in line) == [
        "fake_admin got SIGTERM",
        "fake_proxy got SIGTERM",
    ]
    assert f"{number.name}: stopping" in shown
    assert "Error" not in shown


def test_an_output_nobody_reads_neither_keeps_it_from_starting_nor_from_stopping(gateway: Gateway) -> None:
    gateway.programs.waiting("fake_proxy")
    gateway.programs.waiting("fake_admin", 5)
    with full_pipe() as (_, write_end):
        process = gateway.start(output=write_end)
        gateway.programs.pid("fake_proxy"), gateway.programs.pid("fake_admin")
        gateway.send(signal.SIGHUP)
        gateway.send(signal.SIGTERM)
        assert process.wait(20) == 5, "also when it has last words"


def test_later_signals_are_ignored_while_children_drain(gateway: Gateway) -> None:
    drain = """
def stop(number, frame):
    note(f"{NAME} got {signal.Signals(number).name}")
    while not os.path.exists(os.path.join(folder, "drained")):
        time.sleep(0.01)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
note(NAME + " runs " + str(os.getpid()))
while True:
    time.sleep(0.2)
"""
    gateway.programs.write("fake_proxy", f"NAME = 'fake_proxy'\n{drain}")
    gateway.programs.waiting("fake_admin")
    process = gateway.start()
    gateway.programs.pid("fake_proxy"), gateway.programs.pid("fake_admin")
    gateway.send(signal.SIGTERM)
    eventually(lambda: len([line for line in gateway.programs.events() if "got" in line]) == 2)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        gateway.send(number)
    (gateway.programs.folder / "drained").touch()
    code, _ = gateway.end()
    assert code == 0
    assert process.returncode == 0
    assert len([line for line in gateway.programs.events() if line.startswith("fake_proxy got")]) == 1


def test_sighup_is_noted_and_ignored(gateway: Gateway) -> None:
    pids = _both_wait(gateway)
    gateway.send(signal.SIGHUP)
    gateway.send(signal.SIGHUP)
    assert gateway.process is not None and gateway.process.stdout is not None
    while "SIGHUP is ignored" not in gateway.process.stdout.readline():
        assert gateway.process.poll() is None
    assert all(map(alive, pids))
    gateway.send(signal.SIGTERM)
    assert gateway.end()[0] == 0


def test_sighup_is_passed_on_where_there_is_a_resources_file(gateway: Gateway) -> None:
    hears = """
def hear(number, frame):
    note(f"{NAME} hears")
signal.signal(signal.SIGHUP, hear)
time.sleep(0.3)
note(NAME + " runs " + str(os.getpid()))
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
while True:
    time.sleep(0.2)
"""
    for name in ("fake_proxy", "fake_admin"):
        gateway.programs.write(name, f"NAME = {name!r}\nnote(NAME + ' begins')\n{hears}")
    text = gateway.config.read_text().replace('etcd: {endpoints: ["http://127.0.0.1:1"]}', "resources_file: r.yaml")
    gateway.config.write_text(text)
    gateway.start()
    eventually(lambda: sum("begins" in line for line in gateway.programs.events()) == 2)
    gateway.send(signal.SIGHUP)  # before they listen: it waits for them, and does not end them
    eventually(lambda: sum("hears" in line for line in gateway.programs.events()) == 2)
    gateway.send(signal.SIGTERM)
    code, shown = gateway.end()
    assert code == 0
    assert "the resources file is read again" in shown


def test_sigkill_of_the_supervisor_takes_the_children_along(gateway: Gateway) -> None:
    pids = _both_wait(gateway)
    gateway.send(signal.SIGKILL)
    assert gateway.end()[0] == -signal.SIGKILL
    eventually(lambda: not any(map(alive, pids)))


@pytest.mark.parametrize(("ended", "other"), [("fake_proxy", "fake_admin"), ("fake_admin", "fake_proxy")])
def test_a_child_that_fails_to_start_ends_the_whole(gateway: Gateway, ended: str, other: str) -> None:
    gateway.programs.waiting(other)
    reason = "Error: cannot listen on 127.0.0.1:3000: Address already in use"
    gateway.programs.write(
        ended,
        f"""
while not os.path.exists(os.path.join(folder, "events")):
    time.sleep(0.01)
print({reason!r}, file=sys.stderr)
sys.exit(1)
""",
    )
    gateway.start()
    code, shown = gateway.end()
    assert code == 1
    name = ended.removeprefix("fake_")
    assert shown.splitlines()[-2:] == [reason, f"Error: {name} ended with exit code 1; its own last lines say why"]
    assert not any("got" in line for line in gateway.programs.events())


@pytest.mark.parametrize(("code", "whole"), [(3, 3), (0, 1)])
def test_the_exit_code_is_the_childs_and_never_success(gateway: Gateway, code: int, whole: int) -> None:
    gateway.programs.waiting("fake_admin")
    gateway.programs.write("fake_proxy", f"sys.exit({code})")
    gateway.start()
    assert gateway.end()[0] == whole


def test_a_killed_child_ends_the_whole(gateway: Gateway) -> None:
    proxy, _ = _both_wait(gateway)
    os.kill(proxy, signal.SIGKILL)
    code, shown = gateway.end()
    assert code == 128 + signal.SIGKILL
    assert shown.splitlines()[-1].startswith("Error: proxy ended with exit code 137")


def test_a_child_that_fails_while_stopping_is_told(gateway: Gateway) -> None:
    _both_wait(gateway, proxy_code=0, admin_code=5)
    gateway.send(signal.SIGTERM)
    code, shown = gateway.end()
    assert code == 5
    assert shown.splitlines()[-1].startswith("Error: admin ended with exit code 5")


def test_a_signal_before_the_children_are_up_is_a_clean_stop(gateway: Gateway) -> None:
    for module in ("fake_proxy", "fake_admin"):
        gateway.programs.write(module, f"note('{module} runs ' + str(os.getpid())); time.sleep(60)")
    gateway.start()
    gateway.programs.pid("fake_proxy"), gateway.programs.pid("fake_admin")
    gateway.send(signal.SIGINT)
    code, shown = gateway.end()
    assert code == 0
    assert "Traceback" not in shown


def test_a_service_that_cannot_be_imported(gateway: Gateway) -> None:
    gateway.programs.waiting("fake_proxy")
    gateway.start()
    code, shown = gateway.end()
    assert code == 1
    assert "No module named fake_admin" in shown


ONCE = """
if sum("fake_agent runs" in line for line in open(os.path.join(folder, "events"))) == 1:
    sys.exit(7)
while True:
    time.sleep(0.2)
"""


def test_a_child_that_restarts_ends_nobody(gateway: Gateway) -> None:
    gateway.manage()
    gateway.programs.waiting("fake_proxy")
    gateway.programs.write("fake_agent", f"note('fake_agent runs ' + str(os.getpid()))\n{ONCE}")
    gateway.start()
    proxy, first = gateway.programs.pid("fake_proxy"), gateway.programs.pid("fake_agent")
    eventually(lambda: gateway.programs.pid("fake_agent") != first)
    assert not alive(first) and alive(proxy)
    gateway.send(signal.SIGTERM)
    code, shown = gateway.end()
    assert code == 0
    told = [line for line in shown.splitlines() if "cloud-agent ended" in line]
    assert len(told) == 1
    assert told[0].endswith("cloud-agent ended with exit code 7: it is started again, and the others go on meanwhile")
    assert not alive(gateway.programs.pid("fake_agent"))


@pytest.mark.parametrize("how", ["told to stop", "the proxy ends"])
def test_what_waits_to_be_started_again_holds_nobody_up(gateway: Gateway, how: str) -> None:
    gateway.manage()
    gateway.programs.waiting("fake_proxy")
    gateway.programs.write("fake_agent", "note('fake_agent runs ' + str(os.getpid())); sys.exit(7)")
    gateway.start()
    proxy = gateway.programs.pid("fake_proxy")
    eventually(lambda: sum("fake_agent" in line for line in gateway.programs.events()) == 2)
    if how == "told to stop":
        gateway.send(signal.SIGTERM)
    else:
        os.kill(proxy, signal.SIGKILL)
    code, shown = gateway.end(5)
    assert code == (0 if how == "told to stop" else 128 + signal.SIGKILL)
    assert shown.count("cloud-agent ended") == 1, "told once"


def test_notes_are_json_where_nobody_reads_along(gateway: Gateway) -> None:
    gateway.config.write_text(gateway.config.read_text().replace("log_format: text", "log_format: auto"))
    _both_wait(gateway)
    gateway.send(signal.SIGTERM)
    _, shown = gateway.end()
    assert [json.loads(line)["level"] for line in shown.splitlines()] == ["warn", "info", "info"]
