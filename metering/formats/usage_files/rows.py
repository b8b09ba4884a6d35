"""The rows of a usage file, one after the other in bounded memory, whatever the file's size or its lines' length.

A line that cannot be read becomes a refusal of its own and spoils no other. Cells are texts in CSV and values in JSON
and Parquet; numbers are exact. Knows nothing of what columns mean.
"""

import csv
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from accounts.errors import DomainError
from metering.drafts import Refusal
from metering.exact_json import NotStorable, decode_object
from metering.formats.usage_files import parquet
from metering.models.events import RejectionReason

# Suffix of a file's name -> its format.
SUFFIXES = {
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
    ".pq": "parquet",
}
# Longer lines are no usage; they are passed over and told.
LONGEST_LINE = 2**20


class UnusableFile(DomainError):
    code = "unusable_file"


@dataclass(frozen=True, slots=True)
class Row:
    """A row by the number of its line, from 1; in Parquet, where there are no lines, of the row."""

    line: int
    values: Mapping[str, Any]


def format_of(name: str) -> str:
    """The format that a file's name stands for; CSV unless it says otherwise."""
    return SUFFIXES.get(Path(name).suffix.lower(), "csv")


def read_rows(path: Path, format: str, columns: Collection[str] | None = None) -> Iterator[Row | Refusal]:
    """The rows; `columns` are those of interest, None: all. UnusableFile where reading cannot go on."""
    if format == "parquet":
        return _parquet_rows(path, columns)
    return _json_rows(path) if format == "ndjson" else _csv_rows(path)


def row_refusal(
    line: int, detail: str, values: Any, reason: RejectionReason = RejectionReason.INVALID_EVENT
) -> Refusal:
    """A row that cannot be an event, as it can be shown and kept."""
    return Refusal(reason, f"Line {line}: {detail}", _as_body(line, values), event_id=str(line))


def _as_body(line: int, values: Any) -> bytes:
    try:
        return msgspec.json.encode({"line": line, "row": values})
    except (TypeError, ValueError, RecursionError):
        return msgspec.json.encode({"line": line, "row": "cannot be shown"})


# --- CSV --------------------------------------------------------------------------------------------------------------


def _csv_rows(path: Path) -> Iterator[Row | Refusal]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(_bounded_lines(file))
        header = _header(path, reader)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield row_refusal(reader.line_num, f"it is not CSV ({error}).", None)
                continue
            if cells:
                yield _csv_row(reader.line_num, header, cells)


def _bounded_lines(file: IO[str]) -> Iterator[str]:
    while line := file.readline(LONGEST_LINE):
        yield line


def _header(path: Path, reader: Any) -> list[str]:
    try:
        header: list[str] = next((cells for cells in reader if cells), [])
    except csv.Error as error:
        raise UnusableFile(f"{path.name} is not CSV: {error}.") from error
    require_distinct(header)
    return header


def require_distinct(names: list[str]) -> None:
    """Raise UnusableFile where two columns share a name, since nobody could say which is meant."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UnusableFile(f"Two columns are called {twice[0]!r}. Give each a name of its own.")


def _csv_row(line: int, header: list[str], cells: list[str]) -> Row | Refusal:
    if len(cells) != len(header):
        return row_refusal(line, "it has more or fewer cells than the header.", cells)
    return Row(line, dict(zip(header, cells, strict=True)))


# --- JSON lines -------------------------------------------------------------------------------------------------------


def _json_rows(path: Path) -> Iterator[Row | Refusal]:
    with path.open("rb") as file:
        for number, (line, is_whole) in enumerate(_bounded_json_lines(file), start=1):
            if not is_whole:
                detail = (
                    f"Line {number} is longer than {LONGEST_LINE // 1024} KiB. Send what is metered, not the content."
                )
                yield Refusal(RejectionReason.TOO_LARGE, detail, line, event_id=str(number))
            elif line.strip():
                yield _json_row(number, line.strip().removeprefix(b"\xef\xbb\xbf"))


def _bounded_json_lines(file: IO[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Lines, and whether each is whole; of one that is too long the beginning."""
    while line := file.readline(LONGEST_LINE):
        is_whole = line.endswith(b"\n") or len(line) < LONGEST_LINE
        rest = line
        while not is_whole and rest and not rest.endswith(b"\n"):
            rest = file.readline(LONGEST_LINE)
        yield line, is_whole


def _json_row(number: int, line: bytes) -> Row | Refusal:
    try:
        return Row(number, decode_object(line))
    except NotStorable as error:
        return Refusal(RejectionReason.INVALID_EVENT, f"Line {number} {error}.", line, event_id=str(number))


# --- Parquet ----------------------------------------------------------------------------------------------------------


def _parquet_rows(path: Path, columns: Collection[str] | None) -> Iterator[Row | Refusal]:
    try:
        with parquet.opened(path) as file:
            require_distinct(file.schema_arrow.names)
            for number, values, error in parquet.rows(file, columns):
                yield row_refusal(number, f"{error}.", None) if error else Row(number, values)
    except parquet.UNREADABLE as error:
        raise UnusableFile(f"{path.name} is not a Parquet file that can be read: {_first_line(error)}.") from error


def parquet_length(path: Path) -> int:
    """The number of rows that a Parquet file says it has; UnusableFile if it is none."""
    try:
        with parquet.opened(path) as file:
            return int(file.metadata.num_rows)
    except parquet.UNREADABLE as error:
        raise UnusableFile(f"{path.name} is not a Parquet file that can be read: {_first_line(error)}.") from error


def parquet_columns(path: Path) -> list[str]:
    try:
        with parquet.opened(path) as file:
            return list(file.schema_arrow.names)
    except parquet.UNREADABLE as error:
        raise UnusableFile(f"{path.name} is not a Parquet file that can be read: {_first_line(error)}.") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or ["no reason given"])[0].rstrip(".")
