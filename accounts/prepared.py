"""Statements of the hot paths, planned once per connection rather than for every request.

Django writes values into the text of its queries, so PostgreSQL parses and plans each anew, which takes longer than
running a look-up by key. Use this for the few statements that every API request runs, and Django everywhere else.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from struct import Struct
from typing import Any, Self

from django.db import connection
from psycopg import Cursor, adapters
from psycopg.adapt import Dumper
from psycopg.pq import Format


def run_prepared(statement: str, values: Sequence[Any] | Mapping[str, Any]) -> Cursor[Any]:
    """Run it on Django's connection, in its transaction if there is one; fails with Django's database errors."""
    connection.ensure_connection()
    with connection.wrap_database_errors:
        return Cursor(connection.connection).execute(statement, values, prepare=True)


_UUID, _UUID_ARRAY = 2950, 2951
# Dimensions, whether there are nulls, the elements' type, how many, the first one's number; then each after its length.
_ARRAY = Struct(">iiiii").pack
_UUID_LENGTH = Struct(">i").pack(16)


class Uuids(bytes):
    """A parameter of type `uuid[]` as it travels: PostgreSQL reads text digit by digit, thousands of them per batch."""

    __slots__ = ()

    @classmethod
    def of(cls, keys: Sequence[bytes]) -> Self:
        """Of UUIDs as their sixteen bytes."""
        return cls(_ARRAY(1, 0, _UUID, len(keys), 1) + b"".join([_UUID_LENGTH + key for key in keys]))


class _UuidsDumper(Dumper):
    format = Format.BINARY
    oid = _UUID_ARRAY

    def dump(self, obj: Uuids) -> Uuids:
        return obj


adapters.register_dumper(Uuids, _UuidsDumper)


def as_array(values: Iterable[Any]) -> str:
    """A list as PostgreSQL writes arrays: `{1,NULL,"a \\"b\\""}`, for a parameter with a cast such as `%s::bigint[]`.

    Of texts, numbers, instants and None. psycopg looks at each element to find its type, which takes longer than the
    statement where there are many short lists.
    """
    return "{" + ",".join(map(_as_element, values)) + "}"


def _as_element(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, datetime):
        return value.isoformat()
    return "NULL" if value is None else str(value)
