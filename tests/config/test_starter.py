"""The starter runs on old Pythons and imports nothing of ours: it is loaded here as a file."""

import fcntl
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def starter(tmp_path, monkeypatch) -> ModuleType:
    """The starter, as if the checkout were an empty folder and the machine had no Python."""
    loader = SourceFileLoader("starter", str(ROOT / "kilotoken"))
    spec = spec_from_loader("starter", loader)
    assert spec is not None, "the starter is a Python file"
    module = module_from_spec(spec)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(module)
    for name, value in {
        "ROOT": tmp_path,
        "VENV": tmp_path / ".venv",
        "PLACES": ("{pyenv}/versions/3.*/bin/python3",),
    }.items():
        monkeypatch.setattr(module, name, value if name == "PLACES" else str(value))
    monkeypatch.setattr(module, "PYTHON", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.setattr(module, "UNFINISHED", str(tmp_path / ".venv" / "unfinished"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.delenv("KILOTOKEN_PYTHON", raising=False)
    return module


def fake_python(path: Path, says: str = "", exit_code: int = 0) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {exit_code}\n")
    path.chmod(0o755)
    return str(path)


def test_python_under_pyenv_is_found_behind_a_shim_that_does_not_run(starter, tmp_path):
    fake_python(tmp_path / "bin" / "python3.13", exit_code=127)
    fake_python(tmp_path / "bin" / "python3", says="3 11 0")
    wanted = fake_python(tmp_path / "pyenv" / "versions" / "3.13.0" / "bin" / "python3", says="3 13 0")
    assert starter.find_python() == wanted


def test_tested_version_is_preferred(starter, tmp_path):
    for version in ("3.12.4", "3.13.1", "3.14.0"):
        major, minor, _ = version.split(".")
        fake_python(tmp_path / "pyenv" / "versions" / version / "bin" / "python3", says=f"{major} {minor} 0")
    assert "3.13.1" in starter.find_python()


@pytest.mark.parametrize("says", ["3 11 0", "3 15 0", "3 13 1", "nonsense", ""])
def test_too_old_too_new_without_lock_and_broken_ones_are_passed_over(starter, tmp_path, says):
    fake_python(tmp_path / "bin" / "python3", says=says)
    with pytest.raises(SystemExit, match=r"needs Python 3\.12, 3\.13 or 3\.14"):
        starter.find_python()


def test_named_python_is_used_or_refused(starter, tmp_path, monkeypatch):
    fake_python(tmp_path / "bin" / "python3.13", says="3 13 0")
    own = fake_python(tmp_path / "own", says="3 12 0")
    monkeypatch.setenv("KILOTOKEN_PYTHON", own)
    assert starter.find_python() == own
    monkeypatch.setenv("KILOTOKEN_PYTHON", fake_python(tmp_path / "old", says="3 9 0"))
    with pytest.raises(SystemExit, match="is not a working Python"):
        starter.find_python()


def test_this_python_passes_the_probe(starter):
    assert starter.version(str(ROOT / ".venv" / "bin" / "python")) == sys.version_info[:2]


def _installed(starter: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text("a==1")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    Path(starter.stamp("requirements.lock")).write_text(starter.digest("requirements.lock"))


def test_environment_is_installed_once_per_lock(starter, tmp_path):
    _installed(starter, tmp_path)
    assert starter.is_installed("requirements.lock")
    (tmp_path / "requirements.lock").write_text("a==2")
    assert not starter.is_installed("requirements.lock"), "the lock has changed"


def test_interrupted_installation_is_made_again(starter, tmp_path):
    _installed(starter, tmp_path)
    Path(starter.UNFINISHED).touch()
    assert not starter.is_installed("requirements.lock")


def test_environment_whose_python_is_gone_is_made_again(starter, tmp_path):
    _installed(starter, tmp_path)
    (tmp_path / ".venv" / "bin" / "python").unlink()
    assert not starter.is_installed("requirements.lock")


def test_linked_environment_belongs_to_somebody_else(starter, tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / ".venv").symlink_to(tmp_path / "shared")
    assert starter.is_installed("requirements.lock")


def test_second_start_waits_for_the_first(starter, tmp_path):
    with starter.one_at_a_time(), (tmp_path / ".data" / "install.lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    ("words", "port"), [([], 8000), (["--port", "9000"], 9000), (["--port=9001"], 9001), (["--port", "x"], 8000)]
)
def test_port_is_read_from_the_arguments(starter, words, port):
    assert starter.wanted_port(["up", *words]) == port


def test_unknown_command_is_refused_with_the_list():
    done = subprocess.run([sys.executable, ROOT / "kilotoken", "fly"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "./kilotoken up" in done.stderr
