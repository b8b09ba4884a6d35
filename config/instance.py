"""One copy of Kilotoken on this machine: a data folder, its secrets, and which processes run it.

Whoever holds the lock of a data folder runs it; the kernel lets go of the lock with the holder, so a killed copy
never blocks the next one. `run.json` only tells others where to find what runs.
"""

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_DATA = ROOT / ".data"
DEFAULT_PORT = 8000


class AlreadyRunning(Exception):
    """Another process holds the lock of the data folder."""


@dataclass(frozen=True)
class ProcessMark:
    """A process that is the same one later: numbers are given again, but never with the same start time."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "ProcessMark | None":
        """The mark of a process, or None when there is none of that number."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name before the last bracket may hold spaces; the start time is the 20th field after it.
            after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return cls(pid, int(after_name[19])) if after_name[0] != "Z" else None
        return None

    @property
    def is_alive(self) -> bool:
        return ProcessMark.of(self.pid) == self


@dataclass
class Run:
    """What runs a data folder, as told by its run.json."""

    supervisor: ProcessMark
    port: int
    address: str
    stripe_api_base: str = ""
    is_ready: bool = False
    processes: dict[str, ProcessMark] = field(default_factory=dict)


@dataclass(frozen=True)
class Instance:
    """A data folder and the paths in it."""

    data: Path

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def demo_file(self) -> Path:
        """What the demo world told about itself: logins and places to look at."""
        return self.data / "demo.json"

    @property
    def run_file(self) -> Path:
        return self.data / "run.json"

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the lock of the folder; AlreadyRunning when another process does."""
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.data / "up.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyRunning from None
            yield

    @property
    def is_running(self) -> bool:
        try:
            with (self.data / "up.lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            pass
        return False

    def read_run(self) -> Run | None:
        """What run.json says, whether that still runs or not; None without one."""
        try:
            told = json.loads(self.run_file.read_text())
        except (OSError, ValueError):
            return None
        marks = {name: ProcessMark(**mark) for name, mark in told.pop("processes").items()}
        return Run(supervisor=ProcessMark(**told.pop("supervisor")), processes=marks, **told)

    def write_run(self, run: Run) -> None:
        _write_private(self.run_file, asdict(run))

    def wait_until_ready(self, seconds: float) -> Run | None:
        """The run of a copy that is starting or started, once it is ready; None if it is not in time."""
        deadline = time.monotonic() + seconds
        while self.is_running and time.monotonic() < deadline:
            run = self.read_run()
            if run is not None and run.is_ready and run.supervisor.is_alive:
                return run
            time.sleep(0.2)
        return None

    def secrets(self) -> dict[str, str]:
        """SECRET_KEY and the sandbox's keys: made once per data folder, readable by its owner only."""
        path = self.data / "secrets.json"
        if not path.exists():
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = {
                "SECRET_KEY": secrets.token_urlsafe(48),
                "STRIPE_SECRET_KEY": f"sk_test_sandbox{secrets.token_hex(16)}",
                "STRIPE_WEBHOOK_SECRET": f"whsec_{secrets.token_hex(24)}",
            }
            with contextlib.suppress(FileExistsError):  # another process was quicker: its secrets hold
                _write_private(path, made, only_new=True)
        kept: dict[str, str] = json.loads(path.read_text())
        return kept

    def environment(self, variables: Mapping[str, str], *, address: str, stripe_api_base: str) -> dict[str, str]:
        """The variables a process of this copy gets; what the caller has set comes first."""
        kept = self.secrets()
        ours = {"KILOTOKEN_DATA": str(self.data)}
        defaults = {"SECRET_KEY": kept["SECRET_KEY"], "SITE_URL": address}
        if self.demo_file.exists():
            defaults["AUTOMATIC_CLOSING"] = "no"  # closing a period is what its operator is there to try
        if stripe_api_base:
            ours["STRIPE_API_BASE"] = stripe_api_base
            ours["STRIPE_SECRET_KEY"] = kept["STRIPE_SECRET_KEY"]
            ours["STRIPE_WEBHOOK_SECRET"] = kept["STRIPE_WEBHOOK_SECRET"]
        missing = {name: value for name, value in defaults.items() if not is_set(variables, name)}
        return {**variables, **missing, **ours}


def is_set(variables: Mapping[str, str], name: str) -> bool:
    """True if the variable, or the `_FILE` one that stands for it, has a value."""
    return bool(variables.get(name) or variables.get(f"{name}_FILE"))


def wants_sandbox(variables: Mapping[str, str]) -> bool:
    """Without Stripe, or a server that speaks its API, of your own, the sandbox stands in."""
    return not (is_set(variables, "STRIPE_SECRET_KEY") or is_set(variables, "STRIPE_API_BASE"))


def _write_private(path: Path, content: object, *, only_new: bool = False) -> None:
    """Write a JSON file so that no one else can read it and no reader sees half of it."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file, indent=1)
    try:
        if only_new:
            os.link(scratch, path)
        else:
            scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
