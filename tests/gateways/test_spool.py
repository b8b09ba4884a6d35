"""What is on the disk is sent, whoever dies; what was not acknowledged is sent again."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock

import pytest

from tests.gateways.conftest import GATEWAYS

from kilotoken_spool import NotTaken, Spool  # isort: skip  found where conftest says

# A process that spools numbers and says each one once it is on the disk, and whose receiver never answers.
WRITER = """
import sys, pathlib
from kilotoken_spool import NotTaken, Spool

def send(records):
    raise NotTaken("nobody there")

spool = Spool(pathlib.Path(sys.argv[1]), send, segment_bytes=400)
number = 0
while True:
    spool.append({"n": number})
    print(number, flush=True)
    number += 1
"""


class Receiver:
    def __init__(self) -> None:
        self.got: list[int] = []
        self.is_open = True
        self.asked = Event()
        self._lock = Lock()

    def __call__(self, records) -> None:
        self.asked.set()
        if not self.is_open:
            raise NotTaken("closed")
        with self._lock:
            self.got += [record["n"] for record in records]


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


def test_everything_arrives_in_order_and_leaves_no_file(tmp_path, receiver):
    spool = Spool(tmp_path, receiver, segment_bytes=300, batch=7)
    for number in range(100):
        spool.append({"n": number})
    assert spool.drain(5)
    spool.close()
    assert receiver.got == list(range(100))
    assert not list(tmp_path.glob("*.ndjson"))


def test_writers_of_many_threads_lose_nothing(tmp_path, receiver):
    spool = Spool(tmp_path, receiver, segment_bytes=500)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: spool.append({"n": number}), range(400)))
    assert spool.drain(10)
    spool.close()
    assert sorted(receiver.got) == list(range(400))


def test_what_is_refused_waits_and_is_sent_again(tmp_path, receiver):
    receiver.is_open = False
    spool = Spool(tmp_path, receiver, longest_wait=0.2)
    spool.append({"n": 1})
    assert receiver.asked.wait(5)
    assert not spool.drain(0.3)
    receiver.is_open = True
    assert spool.drain(5)
    spool.close()
    assert receiver.got == [1]


def test_what_a_stopped_process_left_is_sent_by_the_next(tmp_path, receiver):
    receiver.is_open = False
    first = Spool(tmp_path, receiver)
    first.append({"n": 7})
    first.close(0.1)
    receiver.is_open = True
    second = Spool(tmp_path, receiver)
    assert second.drain(5)
    second.close()
    assert receiver.got == [7]


def test_a_file_that_is_being_written_is_left_to_its_writer(tmp_path, receiver):
    silent = Receiver()
    silent.is_open = False
    first = Spool(tmp_path, silent)
    first.append({"n": 1})
    second = Spool(tmp_path, receiver, longest_wait=0.05)
    second.append({"n": 2})
    time.sleep(0.3)
    assert receiver.got == [2]
    silent.is_open = True
    assert first.drain(10)
    assert silent.got == [1]
    first.close()
    second.close()


@pytest.mark.parametrize("attempt", range(3))
def test_killed_in_the_middle_of_writing_it_has_lost_nothing_it_acknowledged(tmp_path, receiver, attempt):
    environment = os.environ | {"PYTHONPATH": str(GATEWAYS / "litellm")}
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writer = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    written = [writer.stdout.readline() for _ in range(40 + attempt)]
    writer.send_signal(signal.SIGKILL)
    written += writer.stdout.readlines()
    writer.wait()
    acknowledged = [int(line) for line in written if line.endswith("\n")]
    spool = Spool(tmp_path, receiver)
    assert spool.drain(10)
    spool.close()
    # At most the one record that was on its way is there besides.
    assert receiver.got[: len(acknowledged)] == acknowledged
    assert len(receiver.got) - len(acknowledged) in (0, 1)


def test_a_line_that_a_crash_cut_off_is_left_out(tmp_path, receiver):
    (tmp_path / "00-1-x.ndjson").write_text(json.dumps({"n": 1}) + "\n" + '{"n": 2')
    spool = Spool(tmp_path, receiver)
    assert spool.drain(5)
    spool.close()
    assert receiver.got == [1]


def test_a_damaged_line_is_set_aside_and_holds_nothing_up(tmp_path, receiver):
    (tmp_path / "00-1-x.ndjson").write_text('{"n": 1}\n{"n" 2}\n{"n": 3}\n')
    spool = Spool(tmp_path, receiver)
    assert spool.drain(5)
    spool.close()
    assert receiver.got == [1, 3]
    assert Path(tmp_path / "damaged.txt").read_text() == '{"n" 2}\n'


def test_a_full_spool_says_so(tmp_path, receiver):
    receiver.is_open = False
    spool = Spool(tmp_path, receiver, max_bytes=200)
    assert not spool.is_full
    for number in range(30):
        spool.append({"n": number})
    time.sleep(1.1)
    assert spool.is_full
    receiver.is_open = True
    assert spool.drain(10)
    spool.close()


def test_a_folder_that_cannot_be_written_loses_nothing_while_the_process_lives(tmp_path, receiver, monkeypatch):
    spool = Spool(tmp_path, receiver)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    spool.append({"n": 5})
    monkeypatch.undo()
    assert spool.drain(5)
    spool.close()
    assert 5 in receiver.got
