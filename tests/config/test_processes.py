import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from config.instance import ROOT, ProcessMark
from config.processes import MOST_RESTARTS, Child, end_leftover, stop_together

# Runs until it is told to stop, with a child of its own that pays no attention.
STUBBORN_FAMILY = "trap '' TERM; sleep 60 & echo $!; wait; wait"


def make(tmp_path: Path, command: list[str], seconds_to_stop: float = 2) -> Child:
    return Child("test", command, dict(os.environ), tmp_path / "test.log", seconds_to_stop=seconds_to_stop)


def wait_until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_child_writes_its_log_and_new_lines_are_given_once(tmp_path):
    child = make(tmp_path, ["sh", "-c", "echo one; echo two; printf half"])
    child.start()
    wait_until(lambda: child.exit_code is not None)
    assert list(child.new_lines()) == ["one", "two"], "an unfinished line waits"
    assert list(child.new_lines()) == []
    assert child.last_lines(2) == ["two", "half"]


def test_child_stops_when_asked(tmp_path):
    child = make(tmp_path, ["sleep", "60"])
    child.start()
    stop_together([child])
    assert child.exit_code == -signal.SIGTERM


def test_child_that_does_not_stop_is_killed_with_all_it_started(tmp_path):
    child = make(tmp_path, ["sh", "-c", STUBBORN_FAMILY], seconds_to_stop=0.3)
    child.start()
    wait_until(child.last_lines)
    grandchild = ProcessMark.of(int(child.last_lines()[0]))
    assert grandchild is not None
    stop_together([child])
    assert child.exit_code == -signal.SIGKILL
    wait_until(lambda: not grandchild.is_alive)


def test_child_that_keeps_dying_is_recognised(tmp_path):
    child = make(tmp_path, ["false"])
    child.start()
    for _ in range(MOST_RESTARTS):
        assert not child.dies_too_often
        wait_until(lambda: child.exit_code is not None)
        child.start_again()
    assert child.dies_too_often


def test_child_ends_when_its_supervisor_is_killed(tmp_path):
    script = (
        "import os, time; from pathlib import Path; from config.processes import Child;"
        f"child = Child('c', ['sleep', '60'], dict(os.environ), Path({str(tmp_path)!r}) / 'c.log');"
        "child.start(); print(child.process.pid, flush=True); time.sleep(60)"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT)
    assert supervisor.stdout is not None
    child = ProcessMark.of(int(supervisor.stdout.readline()))
    assert child is not None
    supervisor.kill()
    supervisor.wait()
    wait_until(lambda: not child.is_alive)


@pytest.fixture
def leftover():
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_leftover_of_a_killed_copy_is_ended(leftover):
    mark = ProcessMark.of(leftover.pid)
    assert mark is not None
    assert end_leftover(mark)
    assert leftover.wait() == -signal.SIGKILL


def test_process_that_has_taken_over_the_number_is_left_alone(leftover):
    mark = ProcessMark.of(leftover.pid)
    assert mark is not None
    assert not end_leftover(ProcessMark(mark.pid, mark.started - 1))
    assert leftover.poll() is None
