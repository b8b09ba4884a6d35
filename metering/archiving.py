"""A month of events as one compressed file, one JSON object per line, checked against the table before it counts.

The file takes its name only when it is whole: written beside it, brought to the disk, read back, and compared with
the partition by number of lines and a digest that PostgreSQL computes by itself. Memory stays bounded. Drops nothing.
"""

import gzip
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from django.db import connection, transaction

from accounts.errors import DomainError
from metering.partitions import partition_name

_ROWS_AT_ONCE = 2_000
_LINES = """
SELECT row_to_json(line)::text AS line FROM (
    SELECT o.public_id AS organisation, b.received_at, b.format, e.batch_id, e.project_id, e.api_key_id,
           e.source, e.event_id AS id, e.type, e.subject, e.time, e.time_assumed, e.data
    FROM {partition} e
    LEFT JOIN ingest_batch b
      ON b.organisation_id = e.organisation_id AND b.id = e.batch_id AND b.receipt_month = e.receipt_month
    LEFT JOIN accounts_organisation o ON o.id = e.organisation_id
    {order}
) AS line"""
# 60 bits of each line's MD5, added up: the same for the same lines in any order.
_SUMMED = "SELECT count(*), coalesce(sum(('x' || left(md5(line), 15))::bit(60)::bigint), 0) FROM ({lines}) AS lines"


class ArchiveError(DomainError):
    code = "archive_failed"


@dataclass(frozen=True, slots=True)
class Archive:
    """A finished file; `digest` is the SHA-256 of its uncompressed content in hexadecimal."""

    path: Path
    events: int
    digest: str


@dataclass(frozen=True, slots=True)
class _Content:
    """What was read back: number of lines, the sum that PostgreSQL computes too, SHA-256."""

    events: int
    summed: int
    digest: str


def archive_month(month: date, folder: Path) -> Archive:
    """Write a month's events to `event_YYYY_MM.ndjson.gz`; ArchiveError leaves no file of that name behind.

    A file that is there already stays, if it holds the same.
    """
    target = folder / f"{partition_name(month)}.ndjson.gz"
    part = target.with_name(f"{target.name}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(part, month)
        content = _read(part)
        _require_same(content, month)
        if target.exists() and _read(target) != content:
            raise ArchiveError(f"{target} holds something else. Move it away first.")
        part.replace(target)
        _bring_to_disk(folder)
    except (OSError, EOFError) as error:
        raise ArchiveError(f"{target} could not be written: {error}") from error
    return Archive(target, content.events, content.digest)


def _write(path: Path, month: date) -> None:
    # For the operator's eyes only; no name and no time inside, so that the same events are the same bytes.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as compressed:
            for lines in _lines(month):
                compressed.write(b"".join(lines))
        file.flush()
        os.fsync(file.fileno())


def _lines(month: date) -> Iterator[list[bytes]]:
    statement = _LINES.format(partition=partition_name(month), order="ORDER BY e.organisation_id, e.key")
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(statement)
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            yield [line.encode() + b"\n" for (line,) in rows]


def _read(path: Path) -> _Content:
    events, summed, digest = 0, 0, hashlib.sha256()
    with gzip.open(path, "rb") as file:
        for line in file:
            events += 1
            summed += int(hashlib.md5(line.rstrip(b"\n"), usedforsecurity=False).hexdigest()[:15], 16)
            digest.update(line)
    return _Content(events, summed, digest.hexdigest())


def _require_same(content: _Content, month: date) -> None:
    lines = _LINES.format(partition=partition_name(month), order="")
    with connection.cursor() as cursor:
        cursor.execute(_SUMMED.format(lines=lines))
        events, summed = cursor.fetchone()
    if (content.events, content.summed) != (events, int(summed)):
        raise ArchiveError(f"The file read back holds {content.events} events that are not the {events} of the table.")


def _bring_to_disk(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
