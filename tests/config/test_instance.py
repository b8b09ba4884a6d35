import json
import os
import subprocess

import pytest

from config.instance import AlreadyRunning, Instance, ProcessMark, Run, wants_sandbox


@pytest.fixture
def instance(tmp_path) -> Instance:
    return Instance(tmp_path / "data")


def test_folder_is_claimed_by_one_at_a_time(instance):
    assert not instance.is_running
    with instance.claimed():
        assert instance.is_running
        with pytest.raises(AlreadyRunning), instance.claimed():
            pass
    assert not instance.is_running


def test_secrets_are_made_once_and_readable_by_their_owner_only(instance):
    first = instance.secrets()
    assert set(first) == {"SECRET_KEY", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET"}
    assert instance.secrets() == first
    assert (instance.data / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert Instance(instance.data.parent / "other").secrets()["SECRET_KEY"] != first["SECRET_KEY"]


def test_run_survives_its_file(instance):
    instance.data.mkdir()
    mark = ProcessMark(pid=12, started=34)
    run = Run(supervisor=mark, port=8000, address="http://127.0.0.1:8000", processes={"web": mark})
    instance.write_run(run)
    assert instance.read_run() == run


def test_run_file_that_is_missing_or_broken_tells_nothing(instance):
    assert instance.read_run() is None
    instance.data.mkdir()
    instance.run_file.write_text("{")
    assert instance.read_run() is None


def test_process_is_known_by_its_number_and_start():
    mark = ProcessMark.of(os.getpid())
    assert mark is not None
    assert mark.is_alive
    assert not ProcessMark(pid=mark.pid, started=mark.started - 1).is_alive, "an earlier process of that number"


def test_process_that_has_ended_is_not_alive():
    process = subprocess.Popen(["sleep", "60"])
    mark = ProcessMark.of(process.pid)
    assert mark is not None
    assert mark.is_alive
    process.kill()
    process.wait()
    assert not mark.is_alive


def test_environment_fills_in_what_the_caller_has_not_set(instance):
    made = instance.environment({"PATH": "/bin"}, address="http://127.0.0.1:8001", stripe_api_base="http://127.0.0.1:9")
    secrets = json.loads((instance.data / "secrets.json").read_text())
    assert made["PATH"] == "/bin"
    assert made["KILOTOKEN_DATA"] == str(instance.data)
    assert made["SECRET_KEY"] == secrets["SECRET_KEY"]
    assert made["SITE_URL"] == "http://127.0.0.1:8001"
    assert made["STRIPE_API_BASE"] == "http://127.0.0.1:9"
    assert made["STRIPE_SECRET_KEY"].startswith("sk_test_")


def test_environment_keeps_what_the_caller_has_set(instance):
    own = {"SECRET_KEY_FILE": "/run/secret", "SITE_URL": "https://meter.example"}
    made = instance.environment(own, address="http://127.0.0.1:8001", stripe_api_base="")
    assert "SECRET_KEY" not in made
    assert made["SITE_URL"] == "https://meter.example"
    assert "STRIPE_API_BASE" not in made


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, True),
        ({"STRIPE_SECRET_KEY": "sk_test_own"}, False),
        ({"STRIPE_SECRET_KEY_FILE": "/run/key"}, False),
        ({"STRIPE_API_BASE": "http://127.0.0.1:1"}, False),
    ],
)
def test_sandbox_stands_in_only_where_stripe_is_not_configured(variables, wanted):
    assert wants_sandbox(variables) is wanted


def test_periods_of_a_demo_world_are_left_to_its_operator(instance):
    assert "AUTOMATIC_CLOSING" not in instance.environment({}, address="http://127.0.0.1:1", stripe_api_base="")
    instance.demo_file.touch()
    made = instance.environment({}, address="http://127.0.0.1:1", stripe_api_base="")
    assert made["AUTOMATIC_CLOSING"] == "no"
    own = instance.environment({"AUTOMATIC_CLOSING": "yes"}, address="http://127.0.0.1:1", stripe_api_base="")
    assert own["AUTOMATIC_CLOSING"] == "yes"
