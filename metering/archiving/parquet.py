"""A month as Parquet: a typed column per field of the event, and `data` as the text of its JSON.

Parquet has no type for numbers of any length, and two events may have different members; so `data` stays the text that
PostgreSQL prints, with every digit. DuckDB, ClickHouse and BigQuery take JSON text apart: `data->>'input_tokens'`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import IO, Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from django.db import connection, transaction

from metering.archiving.content import Content, summand, summed_by_postgresql
from metering.partitions import partition_name

SUFFIX = ".parquet"
# What reading a file that is none, or is damaged, may raise besides OSError.
Unreadable = pa.ArrowException
# A row group ends with either, so that memory is bounded whatever the events hold.
GROUP_ROWS = 50_000
GROUP_BYTES = 32 * 2**20
_ROWS_AT_ONCE = 2_000
_INSTANT = pa.timestamp("us", "UTC")
# The columns, and how PostgreSQL says each; instants as microseconds since 1970.
_COLUMNS: tuple[tuple[str, Any, str], ...] = (
    ("organisation", pa.string(), "o.public_id"),
    ("received_at", _INSTANT, "(extract(epoch FROM b.received_at) * 1000000)::bigint"),
    ("format", pa.string(), "b.format"),
    ("batch_id", pa.int64(), "e.batch_id"),
    ("project_id", pa.int64(), "e.project_id"),
    ("api_key_id", pa.int64(), "e.api_key_id"),
    ("source", pa.string(), "e.source"),
    ("id", pa.string(), "e.event_id"),
    ("type", pa.string(), "e.type"),
    ("subject", pa.string(), "e.subject"),
    ("time", _INSTANT, "(extract(epoch FROM e.time) * 1000000)::bigint"),
    ("time_assumed", pa.bool_(), "e.time_assumed"),
    ("data", pa.string(), "e.data::text"),
)
SCHEMA = pa.schema([(name, kind) for name, kind, _ in _COLUMNS])
_FROM = """
FROM {partition} e
LEFT JOIN ingest_batch b
  ON b.organisation_id = e.organisation_id AND b.id = e.batch_id AND b.receipt_month = e.receipt_month
LEFT JOIN accounts_organisation o ON o.id = e.organisation_id"""
_ROWS = f"SELECT {', '.join(said for _, _, said in _COLUMNS)} {_FROM} ORDER BY e.organisation_id, e.key"
# Each value after its length in bytes, a null as a dash: no two rows have one line.
_LINE = " || ".join(f"coalesce(octet_length(({said})::text) || ':' || ({said})::text, '-')" for _, _, said in _COLUMNS)
_LINES = f"SELECT {_LINE} AS line {_FROM}"


def write(file: IO[bytes], month: date) -> None:
    with pq.ParquetWriter(file, SCHEMA, compression="zstd", write_statistics=True) as writer:
        for rows in _groups(_rows(month)):
            arrays = [
                pa.array(values, kind) for values, kind in zip(zip(*rows, strict=True), SCHEMA.types, strict=True)
            ]
            writer.write_batch(pa.record_batch(arrays, schema=SCHEMA))


def read(path: Path) -> Content:
    events, summed = 0, 0
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
        for batch in file.iter_batches(_ROWS_AT_ONCE, use_threads=False):
            events += batch.num_rows
            summed += sum(summand(line) for line in _lines_of(batch))
    with path.open("rb") as content:
        return Content(events, summed, hashlib.file_digest(content, "sha256").hexdigest())


def content_of_table(month: date) -> Content:
    return summed_by_postgresql(_LINES.format(partition=partition_name(month)))


def _rows(month: date) -> Iterator[list[tuple[Any, ...]]]:
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(_ROWS.format(partition=partition_name(month)))
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            yield rows


def _groups(steps: Iterable[Sequence[tuple[Any, ...]]]) -> Iterator[list[tuple[Any, ...]]]:
    group: list[tuple[Any, ...]] = []
    size = 0
    for rows in steps:
        group += rows
        size += sum(len(row[-1]) for row in rows)
        if len(group) >= GROUP_ROWS or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _lines_of(batch: Any) -> Iterator[bytes]:
    columns = [_texts(batch.column(name)) for name in SCHEMA.names]
    for values in zip(*columns, strict=True):
        yield b"".join(b"-" if text is None else b"%d:%b" % (len(text), text) for text in values)


def _texts(column: Any) -> list[bytes | None]:
    """The values as PostgreSQL would print them."""
    plain = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
    if pa.types.is_boolean(plain.type):
        return [str(value).lower().encode() for value in plain.to_pylist()]
    return [None if value is None else str(value).encode() for value in plain.to_pylist()]
