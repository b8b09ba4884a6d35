"""A month as NDJSON.gz: a JSON object per event, every digit of `data` as PostgreSQL holds it."""

import gzip
import hashlib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import IO

from django.db import connection, transaction

from metering.archiving.content import Content, summand, summed_by_postgresql
from metering.partitions import partition_name

SUFFIX = ".ndjson.gz"
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


def write(file: IO[bytes], month: date) -> None:
    """No name and no time inside, so that the same events are the same bytes."""
    with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as compressed:
        for lines in _lines(month):
            compressed.write(b"".join(lines))


def read(path: Path) -> Content:
    events, summed, digest = 0, 0, hashlib.sha256()
    with gzip.open(path, "rb") as file:
        for line in file:
            events += 1
            summed += summand(line.rstrip(b"\n"))
            digest.update(line)
    return Content(events, summed, digest.hexdigest())


def content_of_table(month: date) -> Content:
    return summed_by_postgresql(_LINES.format(partition=partition_name(month), order=""))


def _lines(month: date) -> Iterator[list[bytes]]:
    statement = _LINES.format(partition=partition_name(month), order="ORDER BY e.organisation_id, e.key")
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(statement)
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            yield [line.encode() + b"\n" for (line,) in rows]
