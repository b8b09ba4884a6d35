"""One copy from start to end, as the starter runs it: up, manage, stop, reset."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.instance import ROOT, Instance, ProcessMark

# What this test run itself is set to.
OWN = ("DATABASE_URL", "KILOTOKEN_DATA", "CELERY_BROKER_URL", "SITE_URL", "STRIPE_SECRET_KEY", "STRIPE_API_BASE")
COMMAND = [sys.executable, "-P", "-m", "config"]


def environment(**more: str) -> dict[str, str]:
    return {**more, **{name: value for name, value in os.environ.items() if name not in OWN}, "PYTHONPATH": str(ROOT)}


def run(*arguments: str, cwd: Path, typed: str = "", **more: str) -> "subprocess.CompletedProcess[str]":
    command = [*COMMAND, *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment(**more), input=typed, capture_output=True, text=True, timeout=120, check=False
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="module")
def instance(folder) -> Instance:
    return Instance(folder / "data")


@pytest.fixture(scope="module")
def running(folder, instance, port) -> Iterator["subprocess.Popen[bytes]"]:
    """A copy without a demo world."""
    command = [*COMMAND, "up", "--data", "data", "--no-demo", "--port", str(port)]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=output, stderr=output)
    deadline = time.monotonic() + 100
    while not ((found := instance.read_run()) and found.is_ready):
        assert process.poll() is None, (folder / "output").read_text()
        assert time.monotonic() < deadline, (folder / "output").read_text()
        time.sleep(0.1)
    yield process
    process.terminate()
    process.wait(60)


def test_pages_are_served_with_their_static_files(running, port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/accounts/login/") as answer:
        assert answer.status == 200
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]


def test_second_up_shows_the_running_copy(running, folder, port):
    again = run("up", "--data", "data", cwd=folder)
    assert again.returncode == 0, again.stderr
    assert f"http://127.0.0.1:{port}" in again.stdout
    assert "running already" in again.stdout


def test_up_on_another_port_says_that_the_copy_is_running(running, folder):
    again = run("up", "--data", "data", "--port", str(free_port()), cwd=folder)
    assert again.returncode == 1
    assert "running already" in again.stderr


def test_up_on_a_taken_port_proposes_another_and_makes_nothing(running, folder, port):
    other = run("up", "--data", "other", "--port", str(port), cwd=folder)
    assert other.returncode == 1
    assert f"Port {port} is taken" in other.stderr
    assert "--port" in other.stderr
    assert not (folder / "other" / "postgres").exists()


def test_manage_works_beside_a_running_copy_with_its_settings(running, folder, instance, port):
    script = "from django.conf import settings as s; print('found', s.SITE_URL, s.STRIPE_API_BASE, s.SECRET_KEY)"
    done = run("manage", "--data", "data", "shell", "-c", script, cwd=folder)
    found = instance.read_run()
    assert found is not None
    assert f"found http://127.0.0.1:{port} {found.stripe_api_base} {instance.secrets()['SECRET_KEY']}" in done.stdout
    assert found.stripe_api_base.startswith("http://127.0.0.1:")


def test_reset_is_refused_while_the_copy_runs(running, folder, instance):
    done = run("reset", "--data", "data", "--yes", cwd=folder)
    assert done.returncode == 1
    assert "stop it first" in done.stderr
    assert (instance.data / "postgres").exists()


def test_killed_worker_is_started_again(running, instance):
    before = instance.read_run()
    assert before is not None
    os.kill(before.processes["worker"].pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while not ((now := instance.read_run()) and now.processes.get("worker") not in {None, before.processes["worker"]}):
        assert time.monotonic() < deadline, "the worker was not started again"
        time.sleep(0.1)


def test_ctrl_c_stops_everything(running, folder, instance):
    found = instance.read_run()
    assert found is not None
    server = ProcessMark.of(int((instance.data / "postgres" / "postmaster.pid").read_text().split()[0]))
    assert server is not None
    running.send_signal(signal.SIGINT)
    assert running.wait(30) == 0
    assert "Stopped" in (folder / "output").read_text()
    assert not any(mark.is_alive for mark in (*found.processes.values(), server))
    assert instance.read_run() is None


def test_manage_starts_the_database_for_as_long_as_it_needs_it(folder, instance):
    script = "from metering.models import Meter; print(Meter.objects.count())"
    done = run("manage", "--data", "data", "shell", "-c", script, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 0
    assert not (instance.data / "postgres" / "postmaster.pid").exists()


def test_manage_makes_the_tables_of_a_new_folder_first(folder):
    done = run("manage", "--data", "fresh", "showmigrations", "accounts", cwd=folder)
    assert "[X] 0001_initial" in done.stdout
    assert "[ ]" not in done.stdout


def test_up_is_refused_in_production(folder):
    done = run("up", "--data", "deployed", cwd=folder, KILOTOKEN_ENVIRONMENT="production")
    assert done.returncode == 2
    assert not (folder / "deployed").exists()


def test_failing_command_passes_on_its_exit_code(folder):
    assert run("manage", "--data", "data", "no_such_command", cwd=folder).returncode == 1


def test_reset_asks_first_and_deletes_only_what_a_copy_made(folder, instance):
    (instance.data / "mine.txt").touch()
    refused = run("reset", "--data", "data", cwd=folder, typed="no\n")
    assert refused.returncode == 1
    assert (instance.data / "postgres").exists()
    done = run("reset", "--data", "data", cwd=folder, typed="yes\n")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in instance.data.iterdir()] == ["mine.txt"]
