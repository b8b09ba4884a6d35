"""A process that a running copy consists of: start, follow its log, stop.

Each child has a session of its own, so that Ctrl-C reaches the supervisor only, which stops them in order. The
kernel ends a child whose supervisor was killed.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from config.instance import ROOT, ProcessMark

# A child that dies more often than this within the window is given up.
MOST_RESTARTS = 5
RESTART_WINDOW_SECONDS = 60
LARGEST_LOG_BYTES = 5_000_000

_libc = ctypes.CDLL(None, use_errno=True)
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>


@dataclass
class Child:
    """One program of the copy and the log file that it writes."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    seconds_to_stop: float = 8
    only_errors: bool = False  # standard output is thrown away, standard error is kept
    process: "subprocess.Popen[bytes] | None" = None
    starts: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_RESTARTS + 1))
    shown: int = 0  # bytes of the log that are on the console

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if not self.starts:
            _rotate(self.log)
            self.skip_lines()
        self.starts.append(time.monotonic())
        parent = os.getpid()

        def before_exec() -> None:
            _libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
            if os.getppid() != parent:  # it died before we asked
                os._exit(1)

        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.command),
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if self.only_errors else log,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,
                preexec_fn=before_exec,
            )

    @property
    def exit_code(self) -> int | None:
        """None while it runs (or before it was started)."""
        return self.process.poll() if self.process else None

    @property
    def mark(self) -> ProcessMark | None:
        return ProcessMark.of(self.process.pid) if self.process else None

    @property
    def dies_too_often(self) -> bool:
        full = len(self.starts) == self.starts.maxlen
        return full and time.monotonic() - self.starts[0] < RESTART_WINDOW_SECONDS

    def start_again(self) -> None:
        """After it died: end what it had started, then start it anew."""
        if self.process:
            kill_group(self.process.pid)
        self.start()

    def ask_to_stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()

    def wait_or_kill(self, deadline: float) -> None:
        """Wait for the end until the deadline (monotonic), then end it and whatever it started."""
        if self.process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.05, deadline - time.monotonic()))
        kill_group(self.process.pid)
        self.process.wait()

    def new_lines(self) -> Iterator[str]:
        """Whole lines that the child has written since the last call."""
        with contextlib.suppress(FileNotFoundError), self.log.open("rb") as log:
            log.seek(self.shown)
            text = log.read(200_000)
            end = text.rfind(b"\n") + 1
            self.shown += end
            yield from text[:end].decode(errors="replace").splitlines()

    def skip_lines(self) -> None:
        """What it has written so far stays in its log."""
        self.shown = self.log.stat().st_size if self.log.exists() else 0

    def last_lines(self, count: int = 15) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return self.log.read_text(errors="replace").splitlines()[-count:]
        return []

    @property
    def last_words(self) -> str:
        """Where its log is and how it ends, for a message."""
        return "\n".join([f"Its log, {self.log}, ends with:", *(f"    {line}" for line in self.last_lines())])


def stop_together(children: Sequence[Child]) -> None:
    """Ask all of them at once, then wait for each; who is not gone in its time is killed."""
    now = time.monotonic()
    for child in children:
        child.ask_to_stop()
    for child in children:
        child.wait_or_kill(now + child.seconds_to_stop)


def end_leftover(mark: ProcessMark) -> bool:
    """End what is left of a killed copy's child and of whatever that started. False when nothing is.

    A number cannot be given again while a process group bears it: unless the number now belongs to a process with
    another start time, the group is the one we made.
    """
    now = ProcessMark.of(mark.pid)
    return (now is None or now == mark) and kill_group(mark.pid)


def kill_group(leader: int) -> bool:
    """Kill what is left of a session that a child of ours led. False when nothing is."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
        return True
    return False


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > LARGEST_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
