"""Usage files: CSV with a header, or JSON objects one per line; a row is an event. Or lines that are CloudEvents.

A row's identity is the digest of the file's content and the row's line, so that a file can be imported again under
any name. Shifting its times is no part of the identity: the same file with another shift conflicts instead of
counting twice.
"""

import csv
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from accounts.errors import DomainError
from metering.drafts import Draft, Refusal, make_draft
from metering.exact_json import NotStorable, decode_object
from metering.formats.cloudevents import decode_event
from metering.models.events import RejectionReason

LINE_SUFFIXES = frozenset({".ndjson", ".jsonl"})
# Column names that stand for a field when the caller names none, in lower case.
USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "time": ("time", "timestamp", "date", "created_at"),
    "model": ("model",),
    "input_tokens": ("input_tokens", "contexttokens", "prompt_tokens"),
    "output_tokens": ("output_tokens", "generatedtokens", "completion_tokens"),
    "cache_read_tokens": ("cache_read_tokens",),
    "cache_write_tokens": ("cache_write_tokens",),
    "reasoning_tokens": ("reasoning_tokens",),
}
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?")


class UnusableFile(DomainError):
    code = "unusable_file"


@dataclass(frozen=True, slots=True)
class Row:
    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class UsageFile:
    """A file that was looked over once: what identifies it and how long it is."""

    path: Path
    # SHA-256 of the content in hexadecimal.
    digest: str
    # Lines, counting a header and blank ones: what a progress bar runs to.
    lines: int
    # field -> column
    columns: Mapping[str, str]

    @property
    def source(self) -> str:
        return f"file:{self.digest}"

    def rows(self) -> Iterator[Row | Refusal]:
        return _json_rows(self.path) if self.path.suffix.lower() in LINE_SUFFIXES else _csv_rows(self.path)


def look_over(path: Path, columns: Mapping[str, str] | None = None) -> UsageFile:
    """Digest, length and columns of a file; UnusableFile if it cannot be read or lacks a column."""
    digest, lines = _measure(path)
    first = next((row for row in UsageFile(path, "", 0, {}).rows() if isinstance(row, Row)), None)
    if first is None:
        raise UnusableFile(f"{path} has no rows: a CSV file needs a header and a row below it.")
    return UsageFile(path, digest, lines, _columns(columns, list(first.values)))


def look_over_lines(path: Path) -> UsageFile:
    """Digest and length of a file of CloudEvents, one per line; UnusableFile if it cannot be read."""
    return UsageFile(path, *_measure(path), {})


def event_lines(file: UsageFile) -> Iterator[tuple[int, Draft | Refusal]]:
    """Line and event of a file of CloudEvents. The events keep the names and subjects that they bring."""
    with file.path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, decode_event(line.strip())


def _measure(path: Path) -> tuple[str, int]:
    """SHA-256 in hexadecimal, and the number of lines."""
    digest, lines, chunk = hashlib.sha256(), 0, b"\n"
    try:
        with path.open("rb") as file:
            for chunk in iter(lambda: file.read(2**20), b""):
                digest.update(chunk)
                lines += chunk.count(b"\n")
            lines += not chunk.endswith(b"\n")
    except OSError as error:
        raise UnusableFile(f"{path} cannot be read: {error.strerror}.") from error
    return digest.hexdigest(), lines


def _columns(wanted: Mapping[str, str] | None, present: list[str]) -> dict[str, str]:
    if wanted is None:
        by_name = {name.lower(): name for name in present}
        wanted = {
            field: by_name[name] for field, names in USUAL_NAMES.items() for name in names[::-1] if name in by_name
        }
    missing = [column for column in wanted.values() if column not in present]
    if missing or "time" not in wanted:
        lacking = f"no column {', '.join(missing)}" if missing else "no column known to hold the time"
        raise UnusableFile(f"There is {lacking}; it has {', '.join(present)}. Say which is which with --columns.")
    return dict(wanted)


def shift_to(file: UsageFile, day: date) -> timedelta:
    """Whole days by which all times move so that the first row falls on `day` (UTC); time of day and spacing stay."""
    for row in file.rows():
        try:
            if isinstance(row, Row):
                return timedelta(days=(day - _time(row, file.columns["time"]).astimezone(UTC).date()).days)
        except ValueError:
            continue
    raise UnusableFile(f"{file.path} has no row with a time that can be read.")


def drafts(
    file: UsageFile, *, type: str, subject: str, model: str | None, shift: timedelta = timedelta(0)
) -> Iterator[tuple[int, Draft | Refusal]]:
    """Line and event of each row. A cell that is empty is unknown, not zero; numbers are exact."""
    fields = {field: column for field, column in file.columns.items() if field != "time"}
    for row in file.rows():
        if isinstance(row, Refusal):
            yield int(row.event_id), msgspec.structs.replace(row, source=file.source)
            continue
        try:
            time = _time(row, file.columns["time"]) + shift
        except (ValueError, OverflowError):
            yield row.line, _unreadable_time(row, file)
            continue
        data: dict[str, Any] = {"model": model} if model else {}
        data |= {
            field: value for field, column in fields.items() if (value := _value(row.values.get(column))) is not None
        }
        yield (
            row.line,
            make_draft(source=file.source, event_id=str(row.line), type=type, subject=subject, time=time, data=data),
        )


def _time(row: Row, column: str) -> datetime:
    """Without a zone it is UTC; digits past the microsecond are cut off."""
    text = row.values.get(column)
    if not isinstance(text, str):
        raise ValueError("no text")
    time = datetime.fromisoformat(text.strip())
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _value(cell: Any) -> Any:
    """A cell of CSV as number where it is written as one, else as text; None when it is empty."""
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    if _NUMBER.fullmatch(text):
        return Decimal(text) if "." in text else int(text)
    return text or None


def _unreadable_time(row: Row, file: UsageFile) -> Refusal:
    shown = str(row.values.get(file.columns["time"]))[:60]
    detail = f"Line {row.line}: {shown!r} is no time such as 2026-11-15 12:00:00."
    body = msgspec.json.encode({"line": row.line, "row": {str(name): cell for name, cell in row.values.items()}})
    return Refusal(RejectionReason.INVALID_EVENT, detail, body, file.source, str(row.line))


def _csv_rows(path: Path) -> Iterator[Row | Refusal]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.DictReader(file)
        try:
            for values in reader:
                is_whole = None not in values and None not in values.values()
                yield Row(reader.line_num, values) if is_whole else _ragged(reader.line_num, values)
        except csv.Error as error:
            raise UnusableFile(f"{path}, line {reader.line_num}: {error}.") from error


def _ragged(line: int, values: Mapping[str, Any]) -> Refusal:
    detail = f"Line {line} has more or fewer cells than the header."
    body = msgspec.json.encode({"line": line, "row": {str(name): cell for name, cell in values.items()}})
    return Refusal(RejectionReason.INVALID_EVENT, detail, body, event_id=str(line))


def _json_rows(path: Path) -> Iterator[Row | Refusal]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield Row(number, decode_object(line))
            except NotStorable as error:
                detail = f"Line {number} {error}."
                yield Refusal(RejectionReason.INVALID_EVENT, detail, line, event_id=str(number))
