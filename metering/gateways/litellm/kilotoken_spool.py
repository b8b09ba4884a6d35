"""Usage on its way to Kilotoken, kept on this machine's disk until Kilotoken has committed it.

A record is a line of JSON in an append-only file and is on the disk (fsync) before `append` returns. A thread sends the
lines in order, again and again until they are acknowledged, and only then removes the file. A file whose process died
is taken over by any other process that uses the same folder. What was sent just before a crash is sent again: records
carry identities, so a duplicate is harmless. Standard library only.
"""

import fcntl
import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

Record = dict[str, Any]
log = logging.getLogger("kilotoken.spool")


class NotTaken(Exception):
    """The receiver could not be reached or did not commit: the records stay and are sent again."""


class Spool:
    """`send` takes a list of records and returns once they are committed there, or raises NotTaken."""

    def __init__(
        self,
        folder: Path,
        send: Callable[[list[Record]], None],
        *,
        max_bytes: int = 1 << 30,
        segment_bytes: int = 4 << 20,
        batch: int = 500,
        longest_wait: float = 5.0,
    ) -> None:
        self.folder = folder
        self._send = send
        self._max_bytes, self._segment_bytes, self._batch = max_bytes, segment_bytes, batch
        self._longest_wait = longest_wait
        self._stopping = threading.Event()
        self._begin()

    def _begin(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._pid = os.getpid()
        self._lock, self._sync_lock = threading.Lock(), threading.Lock()
        self._written = self._synced = 0
        # What the disk would not take: sent all the same, lost only if this process dies before.
        self._unsaved: list[Record] = []
        self._full: list[_Segment] = []
        self._active: _Segment | None = None
        self._size, self._size_read_at = 0, 0.0
        self._has_looked = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kilotoken-spool", daemon=True)
        self._thread.start()

    # --- Writing ------------------------------------------------------------------------------------------------------

    def append(self, record: Record) -> None:
        """Keep a record. It is on the disk when this returns; if the disk refuses, it is kept in memory and said so."""
        if os.getpid() != self._pid:
            self._begin()  # a fork: the thread and the files are the parent's
        line = json.dumps(record, separators=(",", ":"), default=str).encode() + b"\n"
        try:
            self._sync(self._write(line))
        except OSError as error:
            log.error("The spool in %s cannot be written (%s): usage is kept in memory for now.", self.folder, error)
            with self._lock:
                self._unsaved.append(record)
        self._wake.set()

    @property
    def is_full(self) -> bool:
        """No room is left for new calls; those that run are still written down. Looked up once a second."""
        if time.monotonic() - self._size_read_at > 1:
            self._size, self._size_read_at = sum(map(_size, self.folder.glob("*.ndjson"))), time.monotonic()
        return self._size >= self._max_bytes or len(self._unsaved) >= 10_000

    @property
    def is_empty(self) -> bool:
        """Everything of this process has been taken, and what others had left behind when it began."""
        with self._lock:
            rest = self._unsaved or self._full or (self._active and self._active.is_pending)
        return self._has_looked and not rest

    def drain(self, seconds: float) -> bool:
        """Wait until everything is taken; False if it was not by then."""
        deadline = time.monotonic() + seconds
        while not self.is_empty and time.monotonic() < deadline:
            self._wake.set()
            time.sleep(0.02)
        return self.is_empty

    def close(self, seconds: float = 2.0) -> None:
        """Send what can be sent now and stop. What is left stays on the disk for the next start."""
        self.drain(seconds)
        self._stopping.set()
        self._wake.set()
        self._thread.join(seconds)
        for segment in [*self._full, *([self._active] if self._active else [])]:
            segment.close(remove=not segment.is_pending)

    def _write(self, line: bytes) -> int:
        with self._lock:
            if self._active is None or self._active.size >= self._segment_bytes:
                self._turn_over()
            assert self._active is not None
            self._active.write(line)
            self._written += len(line)
            return self._written

    def _turn_over(self) -> None:
        if self._active is not None:
            self._active.sync()
            self._full.append(self._active)
            self._synced = self._written
        self._active = _Segment.begin(self.folder)

    def _sync(self, position: int) -> None:
        """Writers that come together share one fsync: whoever comes later finds its bytes on the disk already."""
        with self._sync_lock:
            if self._synced >= position:
                return
            with self._lock:
                segment, written = self._active, self._written
            assert segment is not None
            segment.sync()
            self._synced = max(self._synced, written)

    # --- Sending ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        wait = 0.0
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self._send_all()
                self._has_looked = True
                if wait:
                    log.warning("Kilotoken has taken the usage that was kept in %s.", self.folder)
                wait = 0.0
            except NotTaken as reason:
                if not wait:
                    log.warning("Kilotoken takes no usage now (%s); it is kept in %s.", reason, self.folder)
                wait = min(self._longest_wait, max(0.1, wait * 2)) * random.uniform(0.7, 1.0)  # noqa: S311
            except Exception:
                wait = self._longest_wait
                log.exception("The spool in %s could not be sent.", self.folder)
            if wait:
                self._stopping.wait(wait)
            else:  # an idle thread looks now and then for what other processes left behind
                self._wake.wait(self._longest_wait)

    def _send_all(self) -> None:
        for path in sorted(self.folder.glob("*.ndjson")):
            if not self._is_mine(path) and (left := _Segment.take_over(path)):
                log.info("Sending what another process left in %s.", path)
                self._send_left(left)
        while self._full:
            self._send_from(self._full[0])
            with self._lock:
                self._full.pop(0).close(remove=True)
        if self._active is not None:
            self._send_from(self._active)
        while self._unsaved:
            batch = self._unsaved[: self._batch]
            self._send(batch)
            with self._lock:
                del self._unsaved[: len(batch)]

    def _send_left(self, segment: "_Segment") -> None:
        is_sent = False
        try:
            self._send_from(segment)
            is_sent = True
        finally:
            segment.close(remove=is_sent)

    def _send_from(self, segment: "_Segment") -> None:
        for records, end in segment.batches(self._batch):
            if records:
                self._send(records)
            segment.sent = end

    def _is_mine(self, path: Path) -> bool:
        with self._lock:
            return any(segment.path == path for segment in [*self._full, self._active] if segment)


class _Segment:
    """One file, locked by the process that writes it. A line that a crash cut off was never acknowledged: left out."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path, self.size, self.sent = path, size, 0
        self._file = file

    @classmethod
    def begin(cls, folder: Path) -> "_Segment":
        """A new file, locked before others can see it under a name that they look for."""
        name = folder / f"{time.time_ns():020d}-{os.getpid()}-{random.getrandbits(32):08x}"
        file = name.with_suffix(".new").open("xb", buffering=0)
        fcntl.flock(file, fcntl.LOCK_EX)
        path = name.with_suffix(".ndjson")
        name.with_suffix(".new").rename(path)
        _sync_folder(folder)
        return cls(path, file, 0)

    @classmethod
    def take_over(cls, path: Path) -> "_Segment | None":
        """The file of a process that is gone; None while somebody holds it."""
        try:
            file = path.open("r+b", buffering=0)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        if not path.exists():  # sent and removed by another, between opening and locking
            file.close()
            return None
        return cls(path, file, _size(path))

    @property
    def is_pending(self) -> bool:
        return self.sent < self.size

    def write(self, line: bytes) -> None:
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            os.ftruncate(self._file.fileno(), self.size)  # no half line before the next one
            raise
        self.size += len(line)

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def batches(self, number: int) -> Iterator[tuple[list[Record], int]]:
        """Up to so many records at a time, and where in the file each batch ends."""
        with self.path.open("rb") as file:
            file.seek(self.sent)
            records: list[Record] = []
            end = self.sent
            while end < self.size and (line := file.readline()):
                end += len(line)
                if (record := _read(line, self.path)) is not None:
                    records.append(record)
                if len(records) == number:
                    yield records, end
                    records = []
            yield records, end

    def close(self, *, remove: bool) -> None:
        if remove:
            self.path.unlink(missing_ok=True)
        self._file.close()


def _read(line: bytes, path: Path) -> Record | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if isinstance(record, dict):
        return record
    # Written whole and damaged since: set aside for people, so that what follows is not held up.
    log.error("A line of %s is damaged; it is kept in damaged.txt.", path)
    with (path.parent / "damaged.txt").open("ab") as aside:
        aside.write(line)
    return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
