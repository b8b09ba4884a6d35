"""The state file: an account's objects, idempotency keys and clock, as JSON lines.

Each line holds what one request changed, and is written before the request is answered: a sandbox that is killed
knows afterwards everything it ever answered. A line torn by the kill belongs to a request that was never answered
and is dropped. Opening the file folds it into one line. Guards against a killed process, not against a power cut.
"""

import json
from collections.abc import Iterator
from io import BufferedWriter
from pathlib import Path
from typing import Any

# What a line holds: name -> value, where "objects", "private" and "keys" are maps in which null means "gone".
type Change = dict[str, Any]

MAPS = ("objects", "private", "keys")


class StateFile:
    """One sandbox's file. Writes only what differs from what the file holds already."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: dict[tuple[str, str], int] = {}
        self._scalars: Change = {}
        self._file: BufferedWriter | None = None

    def read(self) -> Change:
        """Everything that the file holds, folded. `rewrite` comes next, and opens the file for appending."""
        folded: Change = {name: {} for name in MAPS}
        for change in self._lines():
            for name, value in change.items():
                if name in MAPS:
                    folded[name].update(value)
                else:
                    folded[name] = value
        for name in MAPS:
            folded[name] = {id: value for id, value in folded[name].items() if value is not None}
        return folded

    def _lines(self) -> Iterator[Change]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield json.loads(line)

    def rewrite(self, whole: Change) -> None:
        """Replace the file by one line, in one step."""
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_name(self._path.name + ".part")
        unfinished.write_bytes(json.dumps(whole).encode() + b"\n")
        unfinished.replace(self._path)
        self._scalars = {name: value for name, value in whole.items() if name not in MAPS}
        self._written = {(name, id): _print_of(value) for name in MAPS for id, value in whole[name].items()}
        self._file = self._path.open("ab")

    def append(self, change: Change) -> None:
        """Add a line with what has changed; nothing is written when nothing has."""
        scalars = {name: value for name, value in change.items() if name not in MAPS}
        maps = {name: news for name in MAPS if (news := self._news(name, change[name]))}
        if maps or scalars != self._scalars:
            assert self._file is not None, "rewrite() comes first"
            self._scalars = scalars
            line = {**scalars, **maps}
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()

    def _news(self, name: str, values: dict[str, Any]) -> dict[str, Any]:
        news = {}
        for id, value in values.items():
            fingerprint = _print_of(value)
            if self._written.get((name, id)) != fingerprint:
                self._written[name, id] = fingerprint
                news[id] = value
        return news

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _print_of(value: Any) -> int:
    return hash(json.dumps(value))
