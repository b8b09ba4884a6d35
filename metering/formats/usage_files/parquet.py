"""Parquet as rows of plain values: exact numbers, texts, instants in ISO 8601, lists and objects of these.

Row groups are read a slice at a time and only the columns asked for, so memory is bounded by pages and not by the
file. A float is the shortest decimal that is that float, as everybody writes it: 0.1 is 0.1. Imports nothing of ours.
"""

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

ROWS_AT_ONCE = 1_000
# What reading a file that is none, or is damaged, may raise.
UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError, RuntimeError)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (the zone is added where the column has one)
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


class Unreadable(Exception):
    """A value of one row that has no plain form; stands in its place."""


def opened(path: Path) -> AbstractContextManager[Any]:
    """The file, read through a buffer and not mapped into memory."""
    return pq.ParquetFile(path, memory_map=False, pre_buffer=False, buffer_size=2**20)


def rows(file: Any, columns: Collection[str] | None = None) -> Iterator[tuple[int, dict[str, Any], str]]:
    """Number from 1, values by column, and what is wrong with the row; empty: nothing."""
    names = [name for name in file.schema_arrow.names if columns is None or name in columns]
    number = 0
    for group in range(file.num_row_groups):
        slices = file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=names, use_threads=False)
        for batch in slices:
            cells = {name: plain_values(batch.column(batch.schema.get_field_index(name))) for name in names}
            for place in range(batch.num_rows):
                number += 1
                values = {name: column[place] for name, column in cells.items()}
                yield number, values, _what_is_wrong(values)


def _what_is_wrong(values: dict[str, Any]) -> str:
    for name, value in values.items():
        if isinstance(value, Unreadable):
            return f"its {name} cannot be read ({value})"
    return ""


def plain_values(array: Any) -> list[Any]:
    """The values of a column; an Unreadable in the place of one that Python cannot hold."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return plain_values(array.dictionary_decode())
    if pa.types.is_floating(kind):
        texts = array.cast(pa.float32() if pa.types.is_float16(kind) else kind).cast(pa.string()).to_pylist()
        return [_number(text) for text in texts]
    if pa.types.is_timestamp(kind):
        return [_instant(count, kind) for count in array.cast(pa.int64()).to_pylist()]
    if pa.types.is_date(kind):
        return [
            _day(count, kind) for count in array.cast(pa.int32() if kind == pa.date32() else pa.int64()).to_pylist()
        ]
    if pa.types.is_struct(kind):
        return _objects(array)
    try:
        return [plain(value) for value in array.to_pylist()]
    except (ValueError, OverflowError, RuntimeError):
        return [_plain_scalar(scalar) for scalar in array]


def _objects(array: Any) -> list[Any]:
    members = [plain_values(member) for member in array.flatten()]
    names = [array.type.field(place).name for place in range(array.type.num_fields)]
    found: list[Any] = []
    for place, is_there in enumerate(array.is_valid().to_pylist()):
        values = {name: member[place] for name, member in zip(names, members, strict=True)}
        broken = next((value for value in values.values() if isinstance(value, Unreadable)), None)
        found.append((broken or values) if is_there else None)
    return found


def _plain_scalar(scalar: Any) -> Any:
    try:
        return plain(scalar.as_py())
    except (ValueError, OverflowError, RuntimeError) as error:
        return Unreadable((str(error).splitlines() or ["no reason given"])[0])


def plain(value: Any) -> Any:
    """A value of Python in JSON's types, numbers exact; a map with texts for keys becomes an object."""
    match value:
        case None | bool() | int() | str() | Decimal():
            return value
        case float():
            return _number(repr(value))
        case bytes():
            return value.decode("utf-8", "replace")
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return Decimal(value // timedelta(microseconds=1)).scaleb(-6)
        case dict():
            return {str(name): plain(item) for name, item in value.items()}
        case list() | tuple():
            return _list(value)
    return str(value)


def _list(values: Any) -> Any:
    is_map = bool(values) and all(isinstance(item, tuple) and len(item) == 2 for item in values)
    if is_map and all(isinstance(name, str) for name, _ in values):
        return {name: plain(item) for name, item in values}
    return [plain(item) for item in values]


def _number(text: str | None) -> Any:
    """None, a Decimal, or the text of what is no finite number, so that whoever meters it refuses it."""
    if text is None:
        return None
    number = Decimal(text)
    return number if number.is_finite() else text


def _instant(count: int | None, kind: Any) -> Any:
    """ISO 8601, digits past the microsecond cut off; with a zone where the column has one."""
    if count is None:
        return None
    try:
        moment = _EPOCH + timedelta(microseconds=count * 1_000_000 // _PER_SECOND[kind.unit])
    except OverflowError:
        return Unreadable("out of the calendar")
    return (moment.replace(tzinfo=UTC) if kind.tz else moment).isoformat()


def _day(count: int | None, kind: Any) -> Any:
    if count is None:
        return None
    try:
        return (_EPOCH + timedelta(days=count if kind == pa.date32() else count // 86_400_000)).date().isoformat()
    except OverflowError:
        return Unreadable("out of the calendar")
