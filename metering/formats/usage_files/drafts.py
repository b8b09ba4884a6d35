"""Which column of a usage file holds what, and rows as drafts of events.

A row's identity is the digest of the file's content and the row's line, so that a file can be imported again under
any name; where a column holds the events' own ids, it is that id within the source. Shifting its times is no part of
the identity: the same file with another shift conflicts instead of counting twice.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from metering.drafts import EVENT_MAX_BYTES, Draft, Refusal, make_draft
from metering.exact_json import NotStorable, check_storable, decode_object
from metering.formats.cloudevents import decode_event
from metering.formats.usage_files.rows import (
    Row,
    UnusableFile,
    format_of,
    parquet_columns,
    parquet_length,
    read_rows,
    row_refusal,
)
from metering.models.events import RejectionReason

# Column names that stand for a field when the caller names none, in lower case.
USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "time": ("time", "timestamp", "date", "created_at"),
    "id": ("event_id",),
    "data": ("data",),
    "corrects_source": ("corrects_source",),
    "corrects_id": ("corrects_id",),
    "model": ("model",),
    "input_tokens": ("input_tokens", "contexttokens", "prompt_tokens"),
    "output_tokens": ("output_tokens", "generatedtokens", "completion_tokens"),
    "cache_read_tokens": ("cache_read_tokens",),
    "cache_write_tokens": ("cache_write_tokens",),
    "reasoning_tokens": ("reasoning_tokens",),
}
# The same for a file whose rows are CloudEvents, and for one that corrects; elsewhere these names may mean anything.
CLOUDEVENT_NAMES = {name: (name,) for name in ("id", "source", "type", "subject")}
CORRECTION_NAMES = {"id": ("event_id", "id"), "type": ("type", "event_type"), "reason": ("reason",)}
# Fields that are no members of an event's data.
RESERVED_FIELDS = ("time", "id", "source", "type", "subject", "data", "corrects_source", "corrects_id", "reason")
LONGEST_NAME = 255
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?")


@dataclass(frozen=True, slots=True)
class UsageFile:
    """A file that was looked over once: what identifies it and how long it is."""

    path: Path
    # csv, ndjson or parquet.
    format: str
    # SHA-256 of the content in hexadecimal.
    digest: str
    # Lines, counting a header and blank ones, or rows of Parquet: what a progress bar runs to.
    lines: int
    # field -> column
    columns: Mapping[str, str]
    # All columns that the first row has.
    present: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        return f"file:{self.digest}"

    def rows(self) -> Iterator[Row | Refusal]:
        return read_rows(self.path, self.format, set(self.columns.values()))


def look_over(path: Path, columns: Mapping[str, str] | None = None, *, name: str = "", digest: str = "") -> UsageFile:
    """Digest, length and columns of a file; UnusableFile if it cannot be read or lacks a column.

    `name` is what the file is called where its path does not say; `digest` its SHA-256 where that is known.
    """
    file = survey(path, name=name, digest=digest)
    return replace(file, columns=_columns(columns, list(file.present)))


def survey(path: Path, *, name: str = "", digest: str = "") -> UsageFile:
    """Digest, length and the columns that a file has, with those whose names say what they hold."""
    file = _measured(path, format_of(name or path.name), digest)
    if file.format == "parquet":
        present = parquet_columns(path)
    else:
        first = next((row for row in read_rows(path, file.format) if isinstance(row, Row)), None)
        present = list(first.values) if first else []
    if not present or (file.format == "parquet" and not file.lines):
        raise UnusableFile(f"{name or path} has no rows: a CSV file needs a header and a row below it.")
    if any("\x00" in column for column in present):
        raise UnusableFile(f"{name or path} is no usage file: the name of a column holds the character NUL.")
    return replace(file, columns=usual_columns(present), present=tuple(present))


def look_over_lines(path: Path) -> UsageFile:
    """Digest and length of a file of CloudEvents, one per line; UnusableFile if it cannot be read."""
    return _measured(path, "ndjson", "")


def event_lines(file: UsageFile) -> Iterator[tuple[int, Draft | Refusal]]:
    """Line and event of a file of CloudEvents. The events keep the names and subjects that they bring."""
    with file.path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, decode_event(line.strip())


def _measured(path: Path, format: str, digest: str) -> UsageFile:
    hashed, lines, chunk = hashlib.sha256(), 0, b"\n"
    try:
        with path.open("rb") as file:
            for chunk in iter(lambda: file.read(2**20), b""):
                hashed.update(chunk)
                lines += chunk.count(b"\n")
            lines += not chunk.endswith(b"\n")
    except OSError as error:
        raise UnusableFile(f"{path} cannot be read: {error.strerror}.") from error
    lines = parquet_length(path) if format == "parquet" else lines
    return UsageFile(path, format, digest or hashed.hexdigest(), lines, {})


def usual_columns(present: list[str]) -> dict[str, str]:
    """field -> column, as far as the columns' names say what they hold."""
    by_name = {name.lower(): name for name in present}
    names = dict(USUAL_NAMES)
    if "corrects_id" in by_name:
        names |= CORRECTION_NAMES
    if "specversion" in by_name:
        names |= CLOUDEVENT_NAMES
    return {field: by_name[name] for field, known in names.items() for name in known[::-1] if name in by_name}


def _columns(wanted: Mapping[str, str] | None, present: list[str]) -> dict[str, str]:
    wanted = usual_columns(present) if wanted is None else wanted
    missing = [column for column in wanted.values() if column not in present]
    if missing or not {"time", "corrects_id"} & wanted.keys():
        lacking = f"no column {', '.join(missing)}" if missing else "no column known to hold the time"
        raise UnusableFile(f"There is {lacking}; it has {', '.join(present)}. Say which is which with --columns.")
    return dict(wanted)


def shift_to(file: UsageFile, day: date) -> timedelta:
    """Whole days by which all times move so that the first row falls on `day` (UTC); time of day and spacing stay."""
    for row in file.rows():
        try:
            if isinstance(row, Row):
                return timedelta(days=(day - _time(row, file.columns.get("time", "")).astimezone(UTC).date()).days)
        except (ValueError, OverflowError):
            continue
    raise UnusableFile(f"{file.path} has no row with a time that can be read.")


# --- Drafts -----------------------------------------------------------------------------------------------------------


class _Inadmissible(Exception):
    """The row cannot be an event; the text says what to change."""


@dataclass(frozen=True, slots=True)
class _Terms:
    """What holds for all rows that do not say otherwise."""

    type: str
    subject: str
    model: str | None
    source: str
    # Before the line's number in the id of a row that has none of its own.
    prefix: str
    shift: timedelta


def drafts(
    file: UsageFile,
    *,
    type: str,
    subject: str,
    model: str | None,
    shift: timedelta = timedelta(0),
    source: str | None = None,
) -> Iterator[tuple[int, Draft | Refusal]]:
    """Line and event of each row. A cell that is empty is unknown, not zero; numbers are exact.

    `source` stands in the place of the file's digest, which then is part of the ids of rows without one.
    """
    prefix = f"{file.digest[:32]}:" if source else ""
    terms = _Terms(type, subject, model, source or file.source, prefix, shift)
    for row in file.rows():
        if isinstance(row, Refusal):
            named = msgspec.structs.replace(row, source=terms.source, event_id=terms.prefix + row.event_id)
            yield int(row.event_id), named
        else:
            yield row.line, _draft(row, file.columns, terms)


def _draft(row: Row, columns: Mapping[str, str], terms: _Terms) -> Draft | Refusal:
    event_id, source = f"{terms.prefix}{row.line}", terms.source
    try:
        event_id = _name(row, columns, "id", event_id)
        source = _name(row, columns, "source", source)
        type = _name(row, columns, "type", terms.type)
        subject = _name(row, columns, "subject", terms.subject)
        corrects = _corrected(row, columns)
        time = _moment(row, columns, terms, is_needed=not corrects)
        data = _data(row, columns, terms, corrects)
        draft = make_draft(source=source, event_id=event_id, type=type, subject=subject, time=time, data=data)
        check_storable(draft.raw_data, data)
    except NotStorable as error:
        return _refuse(row, columns, source, event_id, f"its data {error}.")
    except (_Inadmissible, RecursionError) as error:
        return _refuse(row, columns, source, event_id, str(error) or "it is nested too deeply.")
    if len(draft.raw_data) > EVENT_MAX_BYTES:
        detail = f"it is larger than the {EVENT_MAX_BYTES // 1024} KiB an event may have."
        return _refuse(row, columns, source, event_id, detail, RejectionReason.TOO_LARGE)
    return draft


def _refuse(
    row: Row,
    columns: Mapping[str, str],
    source: str,
    event_id: str,
    detail: str,
    reason: RejectionReason = RejectionReason.INVALID_EVENT,
) -> Refusal:
    shown = {column: row.values.get(column) for column in columns.values()}
    refusal = row_refusal(row.line, detail, shown, reason)
    return msgspec.structs.replace(refusal, source=source, event_id=event_id)


def _name(row: Row, columns: Mapping[str, str], field: str, otherwise: str) -> str:
    """A name of an event from its cell, or what stands for a cell that is empty or not there."""
    cell = row.values.get(columns[field]) if field in columns else None
    if cell is None or cell == "":
        return otherwise
    if isinstance(cell, bool) or not isinstance(cell, str | int):
        raise _Inadmissible(f"its {field} is no text.")
    name = str(cell).strip()
    if not 1 <= len(name) <= LONGEST_NAME or "\x00" in name:
        raise _Inadmissible(f"its {field} must have 1 to {LONGEST_NAME} characters and no NUL.")
    return name


def _corrected(row: Row, columns: Mapping[str, str]) -> dict[str, str]:
    """Source and id of the event that a row corrects; empty: it corrects none."""
    named = {field: _name(row, columns, field, "") for field in ("corrects_source", "corrects_id")}
    if not any(named.values()):
        return {}
    if not all(named.values()):
        raise _Inadmissible("a correction names both corrects_source and corrects_id.")
    return {"source": named["corrects_source"], "id": named["corrects_id"]}


def _moment(row: Row, columns: Mapping[str, str], terms: _Terms, *, is_needed: bool) -> datetime | None:
    column = columns.get("time", "")
    if not is_needed and row.values.get(column) in (None, ""):
        return None
    try:
        return _time(row, column) + terms.shift
    except (ValueError, OverflowError) as error:
        raise _Inadmissible(f"{str(row.values.get(column))[:60]!r} is no time such as 2026-11-15 12:00:00.") from error


def _time(row: Row, column: str) -> datetime:
    """Without a zone it is UTC; digits past the microsecond are cut off."""
    text = row.values.get(column)
    if not isinstance(text, str):
        raise ValueError("no text")
    time = datetime.fromisoformat(text.strip())
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    # Every zone can be told in UTC, or there is no such instant.
    time.astimezone(UTC)
    return time


def _data(row: Row, columns: Mapping[str, str], terms: _Terms, corrects: dict[str, str]) -> dict[str, Any]:
    """What is metered: the members of a `data` column, if there is one, and those of the row's own columns."""
    cells = {
        field: value
        for field, column in columns.items()
        if field not in RESERVED_FIELDS and (value := _value(row.values.get(column))) is not None
    }
    members = _members(row, columns)
    default = {"model": terms.model} if terms.model else {}
    if not corrects:
        return (default if "corrects" not in members else {}) | members | cells
    instruction: dict[str, Any] = {"corrects": corrects}
    if reason := _name(row, columns, "reason", ""):
        instruction["reason"] = reason
    return instruction | ({"data": default | members | cells} if members or cells else {})


def _members(row: Row, columns: Mapping[str, str]) -> dict[str, Any]:
    """The `data` column: an object, or a text that holds one. What it leaves open is unknown."""
    cell = row.values.get(columns["data"]) if "data" in columns else None
    if cell is None or cell == "":
        return {}
    if isinstance(cell, str):
        cell = decode_object(cell)
    if not isinstance(cell, dict):
        raise _Inadmissible("its data is no object.")
    return {name: value for name, value in cell.items() if value is not None}


def _value(cell: Any) -> Any:
    """A cell of CSV as number where it is written as one, else as text; None when it is empty."""
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    if _NUMBER.fullmatch(text):
        return Decimal(text) if "." in text else int(text)
    return text or None
