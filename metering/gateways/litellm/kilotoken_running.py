"""Calls that were let through and have not ended: what a gateway that is killed leaves to the next one to report.

One small SQLite file beside the spool. A row is written when a call begins, with the event to send if its process dies,
and goes when the call has been reported. It outlives the process, not the machine's power. Standard library only.
"""

import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

SCHEMA = "CREATE TABLE IF NOT EXISTS running (id TEXT PRIMARY KEY, owner TEXT NOT NULL, event TEXT NOT NULL)"


class Running:
    """Safe between threads and processes. Who owns a row is alive while its lock is held."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._owner = folder, f"{os.getpid()}-{uuid4().hex}"
        self._lock = threading.Lock()
        self._alive = _held(self._path(self._owner), create=True)
        self._database = sqlite3.connect(
            folder / "running.sqlite", timeout=5, isolation_level=None, check_same_thread=False
        )
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute(SCHEMA)

    def begin(self, event: dict[str, Any]) -> None:
        """The call of that id runs; `event` is what to report if nobody lives to see its end."""
        self._run("INSERT OR REPLACE INTO running VALUES (?, ?, ?)", event["id"], self._owner, json.dumps(event))

    def end(self, call_id: str) -> None:
        self._run("DELETE FROM running WHERE id = ?", call_id)

    def left_behind(self) -> Iterator[dict[str, Any]]:
        """The events of calls whose process is gone. Each is forgotten once the caller has come back for the next."""
        for (owner,) in self._run("SELECT DISTINCT owner FROM running WHERE owner <> ?", self._owner):
            path = self._path(owner)
            held = _held(path, create=False)
            if held is None and path.exists():
                continue  # it lives
            for call_id, event in self._run("SELECT id, event FROM running WHERE owner = ?", owner):
                yield json.loads(event)
                self.end(call_id)
            path.unlink(missing_ok=True)
            if held is not None:
                held.close()

    def close(self) -> None:
        """What still runs then is left to the next process."""
        with self._lock:
            self._database.close()
        if self._alive is not None:
            self._alive.close()

    def _path(self, owner: str) -> Path:
        return self._folder / f"{owner}.alive"

    def _run(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()


def _held(path: Path, *, create: bool) -> BinaryIO | None:
    """The file, locked; None where another holds it or there is none."""
    try:
        file = path.open("xb" if create else "r+b")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
