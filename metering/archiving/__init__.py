"""A month of events as one file, checked against the table before it counts.

    ndjson     a JSON object per line, compressed with gzip: streams anywhere, one line is one event
    parquet    typed columns, `data` as the text of its JSON: for engines that read columns

The file takes its name only when it is whole: written beside it, brought to the disk, read back, and compared with
the partition by number of events and a digest that PostgreSQL computes by itself. Memory stays bounded. Drops nothing.
"""

import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import ModuleType

from accounts.errors import DomainError
from metering.archiving import ndjson, parquet
from metering.archiving.content import Content
from metering.partitions import partition_name

# By the name that EVENT_ARCHIVE_FORMAT and `drop_events --format` take.
FORMATS: dict[str, ModuleType] = {"ndjson": ndjson, "parquet": parquet}


class ArchiveError(DomainError):
    code = "archive_failed"


@dataclass(frozen=True, slots=True)
class Archive:
    """A finished file; `digest` is the SHA-256, in hexadecimal, of NDJSON uncompressed or of the Parquet file."""

    path: Path
    events: int
    digest: str


def archive_month(month: date, folder: Path, format: str = "ndjson") -> Archive:
    """Write a month's events to `event_YYYY_MM.ndjson.gz` or `.parquet`; ArchiveError leaves no file of that name.

    A file that is there already stays, if it holds the same.
    """
    writing = FORMATS[format]
    target = folder / f"{partition_name(month)}{writing.SUFFIX}"
    part = target.with_name(f"{target.name}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(part, month, writing)
        content = writing.read(part)
        _require_same(content, writing.content_of_table(month))
        if target.exists() and not writing.read(target).is_same(content):
            raise ArchiveError(f"{target} holds something else. Move it away first.")
        part.replace(target)
        _bring_to_disk(folder)
    except (OSError, EOFError, parquet.Unreadable) as error:
        raise ArchiveError(f"{target} could not be written: {error}") from error
    return Archive(target, content.events, content.digest)


def _write(path: Path, month: date, writing: ModuleType) -> None:
    # For the operator's eyes only.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        writing.write(file, month)
        file.flush()
        os.fsync(file.fileno())


def _require_same(written: Content, stored: Content) -> None:
    if not written.is_same(stored):
        raise ArchiveError(
            f"The file read back holds {written.events} events that are not the {stored.events} of the table."
        )


def _bring_to_disk(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
